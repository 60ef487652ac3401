"""What weights this node holds, told to the factory when it changes, and now and then; what it is to give up goes."""

import structlog

from penstock.agent.link import Link
from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.domain.weights import Copy
from penstock.drivers.weights.cache import WeightsCache

log = structlog.get_logger(__name__)
LOOK_SECONDS = 1.0


class WeightsReport:
    """Speaks for one cache; a report that fails is made again later and costs the agent nothing else."""

    def __init__(self, cache: WeightsCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._told: list[tuple[object, ...]] | None = None
        self._look_at = clock.monotonic()
        self._tell_at = clock.monotonic()

    def send(self, link: Link) -> None:
        """Report if it is time; raises UnauthenticatedError if the factory knows this agent no more."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        copies = self._cache.copies()
        essence = [_essence(copy) for copy in copies]
        if essence == self._told and (not essence or now < self._tell_at):
            return
        self._tell_at = now + limits.WEIGHTS_REPORT_SECONDS
        try:
            unwanted = link.push_weights(copies)
        except UnauthenticatedError:
            raise
        except PenstockError as error:
            log.warning("weights_not_reported", error=error.sentence)
            return
        self._told = essence
        for digest in unwanted:
            if self._cache.drop(digest):
                self._told = None  # what is there now is news


def _essence(copy: Copy) -> tuple[object, ...]:
    """Return what makes a report news; how far a fetch has come is told with the replica that waits for it."""
    return (copy.sha256, copy.state, copy.in_use, copy.in_place)
