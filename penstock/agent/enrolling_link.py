"""A link that also keeps the factory's picture of the hardware right: it enrols at first and on every change."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from penstock.agent.link import Link, Pulled
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.domain.host_log import LogLine
from penstock.domain.weights import Copy
from penstock.drivers.base import Check, NodeFacts, Observed, Reading, Traffic, Typed

log = structlog.get_logger(__name__)

INVENTORY_SECONDS = 60.0
RETRY_SECONDS = 15.0


class Enrolls(Link, Protocol):
    """A link that takes inventories."""

    def enroll(self, nodes: Sequence[NodeFacts], drivers: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Report nodes and the drivers of each; return node ids by name."""
        ...


class EnrollingLink:
    """Enrols before the first pull, and again when ``inventory`` finds something else.

    ``drivers`` returns the names of the drivers that can drive every node of ``inventory`` now; it is asked at every pull.
    """

    def __init__(
        self,
        link: Enrolls,
        inventory: Callable[[], Sequence[NodeFacts]],
        drivers: Callable[[], Sequence[str]],
        clock: Clock,
    ) -> None:
        self._link = link
        self._inventory = inventory
        self._drivers = drivers
        self._seen: Sequence[str] = ()  # what it returned when an enrolment was last tried
        self._clock = clock
        self._told: tuple[Sequence[NodeFacts], Sequence[str]] | None = None
        self._look_at = clock.monotonic()

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        """Enrol if there is news, then pull.

        Before the first enrolment nothing can be wanted here, so nothing is pulled until it was heard. Later
        ones only refresh the picture: one that fails is tried again and keeps no wish from coming.
        """
        if self._told is None:
            self.enroll()
        elif self._clock.monotonic() >= self._look_at or tuple(self._drivers()) != self._seen:
            try:
                self.enroll()
            except UnauthenticatedError:
                raise
            except PenstockError as error:
                self._look_at = self._clock.monotonic() + RETRY_SECONDS
                log.warning("not_enrolled", error=error.sentence)
        return self._link.pull(after, wait_seconds)

    def push(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        """Report."""
        self._link.push(observations, silent_nodes)

    def push_console(self, allocation_id: str, begin: int, content: bytes) -> int:
        """Send a piece of a console."""
        return self._link.push_console(allocation_id, begin, content)

    def pull_typed(self, taken: Mapping[str, int], wait_seconds: float) -> Sequence[Typed]:
        """Ask for keys."""
        return self._link.pull_typed(taken, wait_seconds)

    def push_power(self, states: Mapping[str, str]) -> Mapping[str, bool]:
        """Say how nodes are powered."""
        return self._link.push_power(states)

    def push_readings(self, readings: Sequence[Reading]) -> None:
        """Say what devices measure."""
        self._link.push_readings(readings)

    def push_traffic(self, said: Traffic) -> None:
        """Say what networks carried."""
        self._link.push_traffic(said)

    def push_checks(self, checks: Sequence[Check], at_us: int) -> None:
        """Say how well this host is, and what its clock shows."""
        self._link.push_checks(checks, at_us)

    def push_log(self, lines: Sequence[LogLine]) -> None:
        """Say what is new in this host's logs."""
        self._link.push_log(lines)

    def push_weights(self, copies: Sequence[Copy]) -> Sequence[str]:
        """Say what weights there are."""
        return self._link.push_weights(copies)

    def enroll(self) -> None:
        """Look at the hardware and at the drivers, and enrol if either is not what was told last; raises what the link raises."""
        self._seen = offered = tuple(self._drivers())
        found = self._inventory()
        self._look_at = self._clock.monotonic() + INVENTORY_SECONDS
        if (found, offered) == self._told:
            return
        ids = self._link.enroll(found, {node.name: offered for node in found})
        self._told = (found, offered)
        log.info("enrolled", nodes=len(ids), devices=sum(len(node.devices) for node in found))
