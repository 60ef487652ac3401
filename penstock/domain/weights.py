"""A model's weights as an artefact: files with sizes and SHA-256, named as a whole by a digest of that list.

Two models of the same content are one artefact; a model whose files change is another one. A node keeps copies.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, cast

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.base.units import format_bytes

FETCHING = "fetching_weights"  # the code of an allocation whose node has not got the weights yet
ENDS = "ends:"  # begins the digest of a large file: of its size, first and last MiB
END_BYTES = 1 << 20
_ARTEFACT = re.compile(r"[0-9a-f]{64}\Z")
_DIGEST = re.compile(r"(ends:)?[0-9a-f]{64}\Z")


class WeightsState(StrEnum):
    """How far a node's copy has come."""

    FETCHING = "fetching"
    HELD = "held"
    FAILED = "failed"


WEIGHTS_STATE_SENTENCES: dict[WeightsState, str] = {
    WeightsState.FETCHING: "the node is fetching it",
    WeightsState.HELD: "it is whole; engines start from it",
    WeightsState.FAILED: "it could not be fetched; the message says why, and it is tried again when it is needed",
}


@dataclass(frozen=True, slots=True)
class File:
    """One file of an artefact. ``sha256`` is 64 hexadecimal digits, with ``ends:`` before them for a digest of the ends."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of an artefact, by name. ``url`` (https): where they are as well; empty: the factory alone has them."""

    files: tuple[File, ...]
    url: str = ""

    @property
    def sha256(self) -> str:
        """Return the digest that names the artefact."""
        return digest_of((file.name, file.sha256) for file in self.files)

    @property
    def size_bytes(self) -> int:
        """Return the size of all files."""
        return sum(file.size_bytes for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """Return the form that agents get and keep."""
        return {"url": self.url, "files": [[file.name, file.size_bytes, file.sha256] for file in self.files]}

    @classmethod
    def from_json(cls, document: object, expected_sha256: str) -> "Listing":
        """Read it back; InvalidInputError unless it is well formed and its digest is the expected one."""
        try:
            body = cast("Mapping[str, Any]", document)
            rows = cast("Sequence[Sequence[Any]]", body["files"])
            files = tuple(File(str(name), int(size), str(digest)) for name, size, digest in rows)
            listing = cls(files, str(body.get("url") or ""))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError("this is no list of files", field="files") from error
        _check(listing)
        if listing.sha256 != expected_sha256:
            raise InvalidInputError("the list of files is not the one that was asked for", field="sha256")
        return listing


def _check(listing: Listing) -> None:
    if not 0 < len(listing.files) <= limits.WEIGHTS_FILES_MAX:
        raise InvalidInputError(f"an artefact has 1 to {limits.WEIGHTS_FILES_MAX} files", field="files")
    for file in listing.files:
        if not is_file_name(file.name) or _DIGEST.match(file.sha256) is None or file.size_bytes < 0:
            raise InvalidInputError(f"{file.name!r} is no file of an artefact", field="files")
    if len({file.name for file in listing.files}) < len(listing.files):
        raise InvalidInputError("a file is named twice", field="files")
    if listing.url:
        check_url(listing.url)


def is_file_name(name: str) -> bool:
    """Tell whether a file of an artefact may be called so: it stays in its folder, and people can read it."""
    return 0 < len(name) <= 200 and name.isprintable() and "/" not in name and name not in {".", ".."}


def is_digest(text: str) -> bool:
    """Tell whether ``text`` can name an artefact."""
    return _ARTEFACT.match(text) is not None


def check_url(url: str) -> str:
    """Return ``url``; InvalidInputError unless it can be the folder that files are fetched from."""
    if (
        not url.startswith("https://")
        or not url.isascii()
        or not url.isprintable()
        or " " in url
        or "?" in url
    ):
        raise InvalidInputError(
            "the address of a folder of files, https://host/path/, without a query", field="url"
        )
    return url


def digest_of(files: Iterable[tuple[str, str]]) -> str:
    """Return the name of an artefact of these files (name, SHA-256): the SHA-256 of their sorted list."""
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(files))
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Copy:
    """What a node says of its copy of an artefact.

    ``held_bytes`` is what has arrived. ``in_place``: it is the folder that the model was added from, not a copy
    of the node's own, and cannot be pruned. ``in_use``: an engine runs from it, or is to.
    """

    sha256: str
    state: WeightsState
    size_bytes: int
    held_bytes: int
    in_place: bool = False
    in_use: bool = False
    message: str = ""


def progress_sentence(done_bytes: int, size_bytes: int) -> str:
    """Return for example ``'fetching weights 43 % (430 MiB of 1.0 GiB)'``."""
    percent = 100 * done_bytes // max(size_bytes, 1)
    return f"fetching weights {percent} % ({format_bytes(done_bytes)} of {format_bytes(size_bytes)})"


def start_deadline(allocations: Iterable[Mapping[str, Any]], deadline: datetime) -> datetime:
    """Return until when a start is waited for: while weights arrive, from the last word about them on."""
    heard = [a["observed_at"] for a in allocations if a.get("code") == FETCHING and a.get("observed_at")]
    return max([deadline, *(at + limits.START_DEADLINE for at in heard)])


def fetching_sentence(allocations: Iterable[Mapping[str, Any]]) -> str | None:
    """Return how far the weights of a service are that is not up for want of them; None where none are on their way."""
    return next((str(a["message"]) for a in allocations if a["code"] == FETCHING and a["message"]), None)
