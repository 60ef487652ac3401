"""Weights for an agent in the control plane's own process: the same actions, without HTTP."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from penstock.actions import weights as weights_actions
from penstock.actions.context import Context
from penstock.domain.weights import File, Listing
from penstock.drivers.weights.fetch import pieces_of


class InProcessWeights:
    """Reads models' folders on this machine."""

    def __init__(self, context: Context, agent_id: str) -> None:
        self._context = context
        self._agent_id = agent_id

    def listing(self, sha256: str) -> Listing:
        """Return the files of an artefact; see ``actions.weights.listing``."""
        return weights_actions.listing(self._context, self._agent_id, sha256)

    @contextmanager
    def open(self, listing: Listing, file: File, offset: int) -> Generator[tuple[int, Iterator[bytes]]]:
        """Yield where the pieces of a file begin, and the pieces."""
        path, _ = weights_actions.file(self._context, self._agent_id, listing.sha256, file.name)
        yield offset, pieces_of(path, offset)
