"""In which order an agent's drivers get what one answer of the control plane brings."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from penstock.agent.link import Item
from penstock.agent.loop import Agent
from penstock.base.clock import ManualClock
from penstock.drivers.base import Capabilities, Config, Inventory, Observed, Phase, Wanted
from tests.unit.agent.test_loop import HeldLink


class Noting:
    """A driver that notes that it was asked."""

    simulated = True

    def __init__(self, name: str, asked: list[str]) -> None:
        self.name = name
        self._asked = asked

    def validate(self, config: Config) -> None:
        del config

    def inventory(self) -> Inventory:
        return Inventory()

    def capabilities(self) -> Capabilities:
        return Capabilities(kinds=frozenset(), simulated=True)

    def observe(self) -> Sequence[Observed]:
        return []

    def ensure(self, wanted: Wanted) -> Observed:
        self._asked.append(self.name)
        return Observed(wanted.allocation_id, wanted.generation, Phase.READY)

    def remove(self, allocation_id: str) -> Observed:
        return Observed(allocation_id, 0, Phase.ABSENT)


class Announcing(Noting):
    """One whose work goes on in threads of its own."""

    def announce(self, call: Callable[[], None]) -> None:
        del call


def test_what_only_begins_here_is_not_kept_waiting_by_what_takes_its_time() -> None:
    asked: list[str] = []
    drivers = {"network": Noting("network", asked), "machines": Announcing("machines", asked)}
    link = HeldLink()
    link.want(*(Item(f"alc_{n}", "node", name, 1, "present", {}) for n, name in enumerate(drivers)))
    Agent(link, drivers, ManualClock(datetime(2026, 1, 1, tzinfo=UTC))).step(0.0)
    assert asked == ["machines", "network"]
