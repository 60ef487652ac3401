"""The factory's picture of the hardware: told before anything is pulled, and again when it changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from penstock.agent.enrolling_link import INVENTORY_SECONDS, RETRY_SECONDS, EnrollingLink
from penstock.agent.link import Pulled
from penstock.base.clock import ManualClock
from penstock.base.errors import ConflictError, UnauthenticatedError, UnavailableError
from penstock.drivers.base import NodeFacts, Observed
from tests.support.infrastructure import node_facts


class Plane:
    """A control plane that notes what it was told, and fails as the test says."""

    def __init__(self) -> None:
        self.told: list[Sequence[NodeFacts]] = []
        self.drivers: Mapping[str, Sequence[str]] = {}
        self.pulls: list[int] = []
        self.pushes = 0
        self.error: Exception | None = None

    def enroll(self, nodes: Sequence[NodeFacts], drivers: Mapping[str, Sequence[str]]) -> dict[str, str]:
        if self.error is not None:
            raise self.error
        self.told.append(nodes)
        self.drivers = drivers
        return {node.name: f"nod_{node.name}" for node in nodes}

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        del wait_seconds
        self.pulls.append(after)
        return Pulled(full=False, cursor=after + 1, items=[])

    def push(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        del observations, silent_nodes
        self.pushes += 1


class Bench:
    """An enrolling link over a plane, with hardware that the test changes."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.plane = Plane()
        self.nodes = [node_facts("n1", devices=2)]
        self.looks = 0
        self.drivers = ["ctranslate2", "other"]
        self.link = EnrollingLink(self.plane, self._look, lambda: self.drivers, self.clock)

    def _look(self) -> Sequence[NodeFacts]:
        self.looks += 1
        return list(self.nodes)

    def lose_a_device(self) -> None:
        self.nodes = [replace(self.nodes[0], devices=self.nodes[0].devices[:1])]

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_enrols_before_the_first_pull_with_the_drivers_of_each_node(bench: Bench) -> None:
    assert bench.link.pull(0, 1.0).cursor == 1
    assert bench.plane.told == [bench.nodes]
    assert bench.plane.drivers == {"n1": ("ctranslate2", "other")}
    assert bench.plane.pulls == [0]


def test_nothing_is_pulled_until_the_first_enrolment_was_heard(bench: Bench) -> None:
    bench.plane.error = UnavailableError("away")
    for _ in range(3):
        with pytest.raises(UnavailableError):
            bench.link.pull(0, 1.0)
    assert bench.plane.pulls == []
    bench.plane.error = None
    bench.link.pull(0, 1.0)  # at once, not a minute later
    assert len(bench.plane.told) == 1


def test_it_looks_now_and_then_and_tells_only_what_changed(bench: Bench) -> None:
    for _ in range(10):
        bench.link.pull(1, 1.0)
    assert bench.looks == 1
    for _ in range(3):
        bench.pass_time(INVENTORY_SECONDS)
        bench.link.pull(1, 1.0)
    assert (bench.looks, len(bench.plane.told)) == (4, 1)
    bench.lose_a_device()
    bench.link.pull(1, 1.0)
    assert len(bench.plane.told) == 1
    bench.pass_time(INVENTORY_SECONDS)
    bench.link.pull(1, 1.0)
    assert bench.plane.told[1:] == [bench.nodes]


def test_a_later_enrolment_that_fails_keeps_no_wish_from_coming_and_is_tried_again_soon(bench: Bench) -> None:
    bench.link.pull(1, 1.0)
    bench.lose_a_device()
    bench.pass_time(INVENTORY_SECONDS)
    bench.plane.error = ConflictError("not now")
    assert bench.link.pull(2, 1.0).cursor == 3
    bench.plane.error = None
    bench.link.pull(3, 1.0)
    assert len(bench.plane.told) == 1
    bench.pass_time(RETRY_SECONDS)
    bench.link.pull(4, 1.0)
    assert bench.plane.told[1:] == [bench.nodes]


def test_a_refusal_is_never_swallowed(bench: Bench) -> None:
    bench.link.pull(1, 1.0)
    bench.lose_a_device()
    bench.pass_time(INVENTORY_SECONDS)
    bench.plane.error = UnauthenticatedError("revoked")
    with pytest.raises(UnauthenticatedError):
        bench.link.pull(2, 1.0)


def test_reports_go_through(bench: Bench) -> None:
    bench.link.push([], ["n9"])
    assert bench.plane.pushes == 1
    assert bench.plane.told == []


def test_drivers_that_may_act_again_are_told_at_the_next_pull(bench: Bench) -> None:
    bench.link.pull(0, 1.0)
    bench.drivers = ["ctranslate2", "nftables", "other"]
    bench.link.pull(1, 1.0)
    assert bench.plane.drivers == {"n1": ("ctranslate2", "nftables", "other")}
    assert (len(bench.plane.told), bench.looks) == (2, 2)
    bench.link.pull(2, 1.0)
    assert bench.looks == 2, "nothing changed, so nothing is looked at"


def test_drivers_that_could_not_be_told_are_told_a_little_later(bench: Bench) -> None:
    bench.link.pull(0, 1.0)
    bench.drivers = ["ctranslate2"]
    bench.plane.error = UnavailableError("away")
    for _ in range(3):
        bench.link.pull(1, 1.0)
    assert bench.looks == 2
    bench.plane.error = None
    bench.pass_time(RETRY_SECONDS)
    bench.link.pull(2, 1.0)
    assert bench.plane.drivers == {"n1": ("ctranslate2",)}
