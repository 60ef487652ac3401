"""Where an agent answers for what it runs: an address that the gateway reaches it by, and that it listens on.

What was said once with ``--serve-at`` is remembered in the state folder, and so is a port that was found free: an
agent that starts again is found where it was.
"""

import ipaddress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from penstock.base.errors import InvalidInputError, StartupError

_FILE = "serve-at.json"
_WHAT = "give --serve-at HOST or HOST:PORT, with an address of this machine that the gateway reaches"


@dataclass(frozen=True, slots=True)
class ServeAt:
    """``port`` is 0 for any free one, or the one found last time if not ``fixed``."""

    host: str = "127.0.0.1"
    port: int = 0
    fixed: bool = False

    def url(self, port: int) -> str:
        """Return the base URL of what answers on ``port``."""
        return f"https://[{self.host}]:{port}" if ":" in self.host else f"https://{self.host}:{port}"


def parse(text: str) -> ServeAt:
    """Return the address in ``text``; InvalidInputError unless it is HOST or HOST:PORT and names one machine."""
    bare = text.strip()
    if bare.count(":") > 1 and not bare.startswith("["):
        bare = f"[{bare}]"  # an IPv6 address alone
    try:
        parts = urlsplit(f"//{bare}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInputError(f"'{text}' is no address: {_WHAT}", field="serve_at") from error
    if not host or parts.path or parts.query or parts.username is not None or not _is_host(host):
        raise InvalidInputError(f"'{text}' is no address: {_WHAT}", field="serve_at")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - refused, not listened on
        raise InvalidInputError(f"'{host}' names no machine: {_WHAT}", field="serve_at")
    return ServeAt(host, port or 0, fixed=bool(port))


def recall(folder: Path) -> ServeAt:
    """Return what was remembered in the state folder, or the default; StartupError if it cannot be read."""
    try:
        return ServeAt(**orjson.loads((folder / _FILE).read_bytes()))
    except FileNotFoundError:
        return ServeAt()
    except (OSError, orjson.JSONDecodeError, TypeError) as error:
        raise StartupError(f"{folder / _FILE} cannot be read ({error}): {_WHAT}") from error


def remember(folder: Path, serve_at: ServeAt) -> None:
    """Keep the address for the next start; StartupError if the folder cannot be written."""
    partial = folder / f".{_FILE}.new"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.write_bytes(orjson.dumps(asdict(serve_at)))
        partial.replace(folder / _FILE)
    except OSError as error:
        raise StartupError(f"{folder / _FILE} cannot be written: {error.strerror}") from error


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and all(
            label and len(label) <= 63 and label.isascii() and label.replace("-", "").isalnum()
            for label in text.split(".")
        )
    return True
