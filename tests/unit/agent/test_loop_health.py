"""The agent's loop and what stands behind its things: who falls ill there is told at once, counters wait."""

from datetime import timedelta

from penstock.agent.link import Item
from penstock.agent.loop import OBSERVE_SECONDS, Agent
from penstock.base.clock import ManualClock
from penstock.base.ids import new_id
from penstock.drivers.base import Observed, Phase, Wanted
from tests.unit.agent.test_loop import START, HeldLink


class Behind:
    """A driver whose one thing has somebody behind it: counters are told now and then, an illness at once."""

    name = "behind"
    simulated = True
    health = "up"
    count = 0

    def ensure(self, wanted: Wanted) -> Observed:
        return self._said(wanted.allocation_id, wanted.generation)

    def observe(self) -> list[Observed]:
        return [self._said(key, 1) for key in self.known]

    def _said(self, key: str, generation: int) -> Observed:
        self.known = {key}
        self.count += 1
        detail = {"health": {"10.0.0.9:80": [self.health, ""]}, "meters": {"sessions": self.count}}
        return Observed(key, generation, Phase.READY, detail=detail)


def test_who_falls_ill_behind_a_thing_is_told_at_once_and_counters_now_and_then() -> None:
    link, clock, driver = HeldLink(), ManualClock(START), Behind()
    agent = Agent(link, {"behind": driver}, clock)  # pyright: ignore[reportArgumentType] - it needs two verbs only
    link.want(Item(new_id("allocation", START), "node", "behind", 1, "present", {}))
    for _ in range(3):
        agent.step(0.0)
        clock.advance(timedelta(seconds=OBSERVE_SECONDS))
    before = len(link.pushed)
    driver.health = "down"
    agent.step(0.0)
    (told,) = link.pushed[before:]
    assert told.detail is not None
    assert told.detail["health"] == {"10.0.0.9:80": ["down", ""]}
    clock.advance(timedelta(seconds=OBSERVE_SECONDS))
    agent.step(0.0)
    assert len(link.pushed) == before + 1, "counters alone wait"
