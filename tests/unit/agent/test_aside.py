"""What takes its time is driven aside: others are heard of and driven meanwhile, and reports keep their order."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from penstock.agent.link import Item, Pulled
from penstock.agent.loop import Agent
from penstock.base.clock import SystemClock
from penstock.drivers.base import Observed, Phase, Wanted
from tests.support.waiting import until
from tests.unit.agent.test_loop import HeldLink
from tests.unit.agent.test_order_of_driving import Noting

NETWORK, MACHINE = "alc_n", "alc_m"


class Slow(Noting):
    """A driver whose calls wait until the test lets them end; ``did`` is what it was asked, in its order."""

    def __init__(self) -> None:
        super().__init__("network", [])
        self.did: list[tuple[str, int]] = []
        self.ends = threading.Semaphore(0)
        self.fails = 0
        self.inside = self.most = 0

    def works_aside(self) -> bool:
        return True

    def ensure(self, wanted: Wanted) -> Observed:
        self._call("ensure", wanted.generation)
        if self.fails:
            self.fails -= 1
            raise RuntimeError("out of cheese")
        return super().ensure(wanted)

    def remove(self, allocation_id: str) -> Observed:
        self._call("remove", 0)
        return super().remove(allocation_id)

    def _call(self, verb: str, generation: int) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.did.append((verb, generation))
        assert self.ends.acquire(timeout=20)
        self.inside -= 1


class WaitingLink(HeldLink):
    """A link that has nothing new for a moment, as a long poll."""

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        threading.Event().wait(min(wait_seconds, 0.01))
        return super().pull(after, wait_seconds)

    def said(self, allocation_id: str) -> list[tuple[Phase, int]]:
        return [(one.phase, one.generation) for one in self.pushed if one.allocation_id == allocation_id]


def network(generation: int, wanted: str = "present") -> Item:
    return Item(NETWORK, "node", "network", generation, wanted, {"revision": generation})


@contextmanager
def running(link: WaitingLink, *drivers: Noting) -> Iterator[None]:
    stop = threading.Event()
    agent = Agent(link, {one.name: one for one in drivers}, SystemClock())
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        for one in drivers:
            if isinstance(one, Slow):
                one.ends.release(100)
        thread.join(20)
    assert not thread.is_alive()


def test_others_are_heard_of_and_driven_while_it_is_at_work() -> None:
    link, slow, asked = WaitingLink(), Slow(), list[str]()
    link.want(network(1))
    with running(link, slow, Noting("machines", asked)):
        until(lambda: slow.did == [("ensure", 1)])
        link.want(Item(MACHINE, "node", "machines", 1, "present", {}))
        until(lambda: link.said(MACHINE) == [(Phase.READY, 1)])
        assert link.said(NETWORK) == [], "it is at work"
        slow.ends.release()
        until(lambda: link.said(NETWORK) == [(Phase.READY, 1)])


def test_a_wish_that_changes_meanwhile_is_driven_next_and_told_last() -> None:
    link, slow = WaitingLink(), Slow()
    link.want(network(1))
    with running(link, slow):
        until(lambda: slow.did == [("ensure", 1)])
        link.want(network(2))
        link.want(network(3, "absent"))
        until(lambda: link.pulls[-1][0] == link.cursor)
        slow.ends.release()
        until(lambda: slow.did == [("ensure", 1), ("remove", 0)])
        assert link.said(NETWORK) in ([], [(Phase.READY, 1)]), "what came of the first is told as that"
        slow.ends.release()
        until(lambda: link.said(NETWORK)[-1:] == [(Phase.ABSENT, 3)])
        link.want(network(4))
        until(lambda: slow.did[-1] == ("ensure", 4))
        slow.ends.release()
        until(lambda: link.said(NETWORK)[-1] == (Phase.READY, 4))
    assert [generation for _, generation in link.said(NETWORK)] == sorted(g for _, g in link.said(NETWORK))
    assert slow.most == 1, "its calls never overlap"


def test_what_fails_is_tried_again_by_itself() -> None:
    link, slow = WaitingLink(), Slow()
    slow.fails = 2
    slow.ends.release(10)
    link.want(network(1))
    with running(link, slow):
        until(lambda: (Phase.READY, 1) in link.said(NETWORK))
        assert slow.did == [("ensure", 1)] * 3


def test_a_defect_beside_the_driver_costs_a_moment_and_no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    link, slow = WaitingLink(), Slow()
    slow.ends.release(10)
    push, failed = link.push, threading.Event()

    def break_once(observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        if not failed.is_set() and threading.current_thread().name == "aside-network":
            failed.set()
            raise RuntimeError("out of cheese")
        push(observations, silent_nodes)

    monkeypatch.setattr(link, "push", break_once)
    link.want(network(1))
    with running(link, slow):
        until(lambda: (Phase.READY, 1) in link.said(NETWORK))
        link.want(network(2))
        until(lambda: (Phase.READY, 2) in link.said(NETWORK))
    assert failed.is_set()
