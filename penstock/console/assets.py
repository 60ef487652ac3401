"""Style, scripts and fonts: read once, compressed once, served under a name that holds their digest.

A name with a digest never means anything else, so browsers keep it for good; a new release has new names.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.console.secure import BASE, secured

TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    packed: bytes | None  # None: packing would not make it smaller
    media_type: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """Return every asset by its path below the folder ``static``."""
    found: dict[str, Asset] = {}
    _read(resources.files("penstock.console").joinpath("static"), "", found)
    return found


def _read(folder: Traversable, prefix: str, found: dict[str, Asset]) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            _read(entry, f"{prefix}{entry.name}/", found)
            continue
        suffix = entry.name.rpartition(".")[2]
        if suffix in TYPES:
            content = entry.read_bytes()
            packed = gzip.compress(content, 9, mtime=0)
            digest = hashlib.sha256(content).hexdigest()[:12]
            smaller = packed if len(packed) < len(content) * 0.95 else None
            found[prefix + entry.name] = Asset(content, smaller, TYPES[suffix], digest)


def asset_url(name: str) -> str:
    """Return the address of an asset; KeyError if there is none of that name."""
    return f"{BASE}/static/{assets()[name].digest}/{name}"


def show(request: Request) -> Response:
    """Return an asset; an address of an older release gets today's content, for a moment only."""
    asset = assets().get(str(request.path_params["name"]))
    if asset is None:
        return secured(Response("no such file\n", status_code=404, media_type="text/plain"))
    current = request.path_params["digest"] == asset.digest
    headers = {"Cache-Control": _FOREVER if current else "no-cache", "Vary": "Accept-Encoding"}
    body = asset.content
    if asset.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body = asset.packed
        headers["Content-Encoding"] = "gzip"
    return secured(Response(body, headers=headers, media_type=asset.media_type))


async def _show(request: Request) -> Response:
    return show(request)


routes = [Route("/static/{digest}/{name:path}", _show, methods=["GET"])]
