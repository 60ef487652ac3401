"""Where the weights of replicas are on this machine: the bridge from a replica's wish to the node's cache."""

from collections.abc import Iterable

from penstock.domain.weights import FETCHING
from penstock.drivers.base import Config, Observed, Phase
from penstock.drivers.processes.replica import Failure, State
from penstock.drivers.weights.cache import WeightsCache
from penstock.drivers.weights.wanted import FIELD, WantedWeights, relocated, split


class LocatedWeights:
    """Finds the artefacts of replicas; without a cache their folders are taken as they are named."""

    def __init__(self, cache: WeightsCache | None) -> None:
        self._cache = cache
        self._doubts: set[str] = set()  # allocations whose weights were read again because of them

    def locate(self, state: State) -> Config | Observed | Failure:
        """Return the config with the folders of this machine; else how far the weights are, or why they do not come."""
        if self._cache is None:
            return state.config
        places: dict[str, str] = {}
        for wanted in _wanted(state):
            found = self._cache.look(wanted)
            if found.folder is None:
                return (
                    fetching(state, found.message)
                    if found.code is None
                    else Failure(found.code, found.message)
                )
            places[wanted.folder] = str(found.folder)
        return relocated(state.config, places) if places else state.config

    def doubt(self, state: State) -> bool:
        """Have the node's own copies read again, and fetched where they are damaged; once for each replica."""
        if self._cache is None or state.allocation_id in self._doubts:
            return False
        self._doubts.add(state.allocation_id)
        doubted = [wanted for wanted in _wanted(state) if self._cache.doubt(wanted.sha256)]
        return bool(doubted)

    def forget(self, allocation_id: str) -> None:
        """Forget a replica that is gone."""
        self._doubts.discard(allocation_id)


def fetching(state: State, message: str) -> Observed:
    """Return the word about a replica whose weights are on their way."""
    return Observed(state.allocation_id, state.generation, Phase.PENDING, code=FETCHING, message=message)


def digests_of(states: Iterable[State | None]) -> set[str]:
    """Return the artefacts that replicas need."""
    return {wanted.sha256 for state in states if state is not None for wanted in _wanted(state)}


def _wanted(state: State) -> tuple[WantedWeights, ...]:
    return split({FIELD: list(state.weights)})[1] if state.weights else ()
