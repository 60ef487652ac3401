"""What an agent needs of a control plane, near or far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from penstock.domain.host_log import LogLine
from penstock.domain.weights import Copy
from penstock.drivers.base import Check, Observed, Reading, Traffic, Typed


@dataclass(frozen=True, slots=True)
class Item:
    """One wish: the allocation shall be ``present`` with this config, or ``absent``."""

    allocation_id: str
    node: str
    driver: str
    generation: int
    wanted: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pulled:
    """Wishes. ``full``: these are all; else those that changed since the cursor that was asked with.

    ``typing``: somebody types into the console of a machine here.
    """

    full: bool
    cursor: int
    items: Sequence[Item]
    typing: bool = False


class Link(Protocol):
    """The way to the control plane. Every call may raise PenstockError or OSError; the agent goes on without."""

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        """Return wishes changed since cursor ``after`` (0: all), waiting up to ``wait_seconds`` for one."""
        ...

    def push(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        """Report; ``silent_nodes`` are all nodes of this agent that it cannot reach now."""
        ...

    def push_console(self, allocation_id: str, begin: int, content: bytes) -> int:
        """Send a piece of a machine's console; return the offset to go on from."""
        ...

    def pull_typed(self, taken: Mapping[str, int], wait_seconds: float) -> Sequence[Typed]:
        """Return the open sessions at consoles here with the keys beyond those ``taken``, waiting for some; none: all is over."""
        ...

    def push_power(self, states: Mapping[str, str]) -> Mapping[str, bool]:
        """Say of nodes whether they are on, waking or off; return which shall be on (True) or off and are not."""
        ...

    def push_readings(self, readings: Sequence[Reading]) -> None:
        """Say what devices measure; at most limits.SENSORS_PER_REPORT_MAX of them."""
        ...

    def push_traffic(self, said: Traffic) -> None:
        """Say what networks carried; at most as much as ``base.limits`` allows in one report."""
        ...

    def push_checks(self, checks: Sequence[Check], at_us: int) -> None:
        """Say how well this host is, and what its clock shows."""
        ...

    def push_log(self, lines: Sequence[LogLine]) -> None:
        """Say what is new in this host's logs; what was said before is not written twice."""
        ...

    def push_weights(self, copies: Sequence[Copy]) -> Sequence[str]:
        """Say what weights this agent's node has; return the digests of those it is to give up."""
        ...
