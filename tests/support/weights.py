"""A source of weights that a test holds in its hand, and small artefacts to fetch from it."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from penstock.base.errors import UnavailableError
from penstock.domain.weights import File, Listing
from penstock.drivers.weights.cache import Found, WeightsCache
from penstock.drivers.weights.wanted import WantedWeights
from tests.support.waiting import poll

PIECE_BYTES = 1_000


def listing_of(files: dict[str, bytes], url: str = "") -> Listing:
    """Return the list of files with these contents."""
    rows = [File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())]
    return Listing(tuple(rows), url)


@dataclass
class HeldSource:
    """Gives what is in ``artefacts`` (by digest); ``asked`` says which file was asked for from which byte on.

    ``between`` is called between two pieces of a file; what it raises, the source raises.
    """

    artefacts: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    asked: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    between: Callable[[], None] = lambda: None
    resumes: bool = True

    def add(self, files: dict[str, bytes], folder: str = "/nowhere") -> WantedWeights:
        """Offer an artefact of these files; return what an engine's config says of it."""
        listing = listing_of(files)
        self.artefacts[listing.sha256] = files
        return WantedWeights(folder, listing.sha256, listing.size_bytes)

    def listing(self, sha256: str) -> Listing:
        """Return the files of an artefact."""
        if sha256 not in self.artefacts:
            raise UnavailableError("the factory does not answer")
        return listing_of(self.artefacts[sha256])

    @contextmanager
    def open(self, listing: Listing, file: File, offset: int) -> Generator[tuple[int, Iterator[bytes]]]:
        """Yield the pieces of a file."""
        self.asked.append((file.name, offset))
        data = self.artefacts[listing.sha256][file.name]
        begin = offset if self.resumes else 0

        def pieces() -> Iterator[bytes]:
            for at in range(begin, len(data), PIECE_BYTES):
                self.between()
                yield data[at : at + PIECE_BYTES]

        yield begin, pieces()


def settle(cache: WeightsCache, wanted: WantedWeights, seconds: float = 20.0) -> Found:
    """Look until the artefact is there, or it is said why it does not come."""

    def settled(found: Found) -> bool:
        return found.folder is not None or not found.message.startswith(("checking", "fetching", "waiting"))

    return poll(lambda: cache.look(wanted), settled, seconds)


def files_in(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
