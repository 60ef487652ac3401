"""The agent's loop between a link that the test holds in its hand and the simulated hardware."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.agent.desired import DesiredFile
from penstock.agent.link import Item, Pulled
from penstock.agent.loop import OBSERVE_SECONDS, RECHECK_SECONDS_MAX, TRIES_MAX, Agent
from penstock.base import limits
from penstock.base.clock import ManualClock, SystemClock
from penstock.base.errors import DriverError, UnavailableError
from penstock.base.ids import new_id
from penstock.domain.device import load_device_classes
from penstock.drivers.base import Observed, Phase, Reading, Wanted
from penstock.drivers.simulated.driver import SimulatedDriver
from penstock.drivers.simulated.site import parse_site
from tests.support.waiting import until

START = datetime(2026, 1, 1, tzinfo=UTC)
WHOLE = 0x7F


class HeldLink:
    """A control plane of three lists: what is wanted, what was pushed, and whether it can be reached."""

    def __init__(self) -> None:
        self.wanted: dict[str, Item] = {}
        self.changed: list[tuple[int, Item]] = []
        self.cursor = 1
        self.pushed: list[Observed] = []
        self.pushes: list[int] = []
        self.silent: Sequence[str] = ()
        self.pulls: list[tuple[int, float]] = []
        self.pull_fails: Exception | None = None
        self.push_fails: Exception | None = None

    def want(self, *items: Item) -> None:
        for item in items:
            self.cursor += 1
            self.wanted[item.allocation_id] = item
            self.changed.append((self.cursor, item))

    def forget(self, item: Item) -> None:
        del self.wanted[item.allocation_id]

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        self.pulls.append((after, wait_seconds))
        if self.pull_fails is not None:
            raise self.pull_fails
        if after == 0:
            return Pulled(full=True, cursor=self.cursor, items=list(self.wanted.values()))
        return Pulled(full=False, cursor=self.cursor, items=[item for at, item in self.changed if at > after])

    def push(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        if self.push_fails is not None:
            raise self.push_fails
        self.pushes.append(len(observations))
        self.pushed += observations
        self.silent = silent_nodes

    def push_power(self, states: Mapping[str, str]) -> Mapping[str, bool]:
        del states
        return {}

    def push_readings(self, readings: Sequence[Reading]) -> None:
        del readings

    def phases(self, item: Item) -> list[Phase]:
        return [report.phase for report in self.pushed if report.allocation_id == item.allocation_id]


class Moody(SimulatedDriver):
    """The simulated hardware behind a driver with defects."""

    fails_for: frozenset[str] = frozenset()
    error: Exception = RuntimeError("out of cheese")
    calls = 0

    def ensure_many(self, wanted: Sequence[Wanted]) -> Sequence[Observed]:
        self.calls += 1
        if self.fails_for.intersection(one.allocation_id for one in wanted):
            raise self.error
        return super().ensure_many(wanted)

    def remove_many(self, allocation_ids: Sequence[str]) -> Sequence[Observed]:
        if self.fails_for.intersection(allocation_ids):
            raise self.error
        return super().remove_many(allocation_ids)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def link() -> HeldLink:
    return HeldLink()


@pytest.fixture
def driver(tmp_path: Path, clock: ManualClock) -> Iterator[Moody]:
    made = Moody(tmp_path / "world", clock, parse_site("8x8:H100", load_device_classes()))
    yield made
    made.close()


@pytest.fixture
def agent(link: HeldLink, driver: Moody, clock: ManualClock) -> Agent:
    return Agent(link, {"simulated": driver}, clock)


def an_item(device: int = 0, *, generation: int = 1, tray: int = 1, **config: Any) -> Item:
    body = {"node": f"r01t{tray:02d}", "devices": [{"index": device, "mask": WHOLE}], **config}
    return Item(new_id("allocation", START), f"r01t{tray:02d}", "simulated", generation, "present", body)


def absent(item: Item) -> Item:
    return Item(item.allocation_id, item.node, item.driver, item.generation + 1, "absent", item.config)


def pass_time(clock: ManualClock, seconds: float) -> None:
    clock.advance(timedelta(seconds=seconds))


def test_it_asks_for_everything_first_and_for_changes_then(agent: Agent, link: HeldLink) -> None:
    item = an_item()
    link.want(item)
    assert agent.step(0.0) == 1
    assert agent.step(0.0) == 0
    assert [after for after, _ in link.pulls] == [0, 2]
    assert link.phases(item) == [Phase.READY]
    assert link.pushed[0].generation == 1


def test_a_slow_thing_is_asked_for_again_until_it_is_ready(
    agent: Agent, link: HeldLink, clock: ManualClock, driver: Moody
) -> None:
    item = an_item(start_seconds=10.0)
    link.want(item)
    for _ in range(40):
        agent.step(0.0)
        pass_time(clock, RECHECK_SECONDS_MAX)
    assert link.phases(item)[-1] is Phase.READY
    assert len(link.phases(item)) == len(set(link.phases(item)))  # each phase is told once
    assert 20 <= driver.calls <= 30  # twice a second, and never again once it is ready


def test_the_wait_for_wishes_ends_when_something_of_ours_is_due(agent: Agent, link: HeldLink) -> None:
    agent.step()
    agent.step()
    assert 0 < link.pulls[-1][1] <= OBSERVE_SECONDS
    link.want(an_item(start_seconds=100.0))
    agent.step()
    agent.step()
    assert 0 < link.pulls[-1][1] <= RECHECK_SECONDS_MAX


def test_a_wish_that_is_gone_is_undone_and_forgotten(agent: Agent, link: HeldLink, driver: Moody) -> None:
    item = an_item()
    link.want(item)
    agent.step(0.0)
    assert driver.world()
    link.want(absent(item))
    agent.step(0.0)
    assert link.phases(item) == [Phase.READY, Phase.ABSENT]
    assert link.pushed[-1].generation == 2
    assert driver.world() == {}
    link.want(absent(item))  # told again, as rows may be: gone already is a success
    agent.step(0.0)
    assert link.phases(item)[-1] is Phase.ABSENT


def test_a_new_generation_is_answered_with_its_number(agent: Agent, link: HeldLink) -> None:
    item = an_item()
    link.want(item)
    agent.step(0.0)
    link.want(Item(item.allocation_id, item.node, "simulated", 7, "present", item.config))
    agent.step(0.0)
    assert [report.generation for report in link.pushed] == [1, 7]


def test_many_are_driven_in_batches(
    agent: Agent, link: HeldLink, driver: Moody, tmp_path: Path, clock: ManualClock
) -> None:
    items = [an_item(device, tray=tray) for tray in range(1, 9) for device in range(8)]
    link.want(*items)
    assert agent.step(0.0) == 64
    assert driver.calls == 1
    site = parse_site("80x8:H100", load_device_classes())
    large = Moody(tmp_path / "large", clock, site)
    try:
        many = [
            Item(
                new_id("allocation", START),
                fact.name,
                "simulated",
                1,
                "present",
                {"node": fact.name, "devices": [{"index": index, "mask": 1}]},
            )
            for fact in large.inventory().nodes
            for index in range(8)
        ]
        link = HeldLink()
        link.want(*many)
        assert Agent(link, {"simulated": large}, clock).step(0.0) == 640
        assert large.calls == 2
        assert link.pushes == [limits.AGENT_PULL_BATCH, 640 - limits.AGENT_PULL_BATCH]
    finally:
        large.close()


def test_one_bad_allocation_never_stops_the_others(
    agent: Agent, link: HeldLink, driver: Moody, clock: ManualClock
) -> None:
    good, bad = an_item(0), an_item(1)
    driver.fails_for = frozenset({bad.allocation_id})
    link.want(good, bad)
    for _ in range(TRIES_MAX + 1):
        agent.step(0.0)
        pass_time(clock, RECHECK_SECONDS_MAX)
    assert link.phases(good) == [Phase.READY]
    assert link.phases(bad) == [Phase.PENDING, Phase.FAILED]
    assert link.pushed[-1].code == "driver_failed"
    assert "out of cheese" in str(link.pushed[-1].message)
    calls = driver.calls
    for _ in range(10):
        agent.step(0.0)
        pass_time(clock, 1.0)
    assert driver.calls == calls  # what failed for good is not tried again until it is wanted anew


def test_a_drivers_own_error_fails_the_allocation_with_its_code(
    agent: Agent, link: HeldLink, driver: Moody
) -> None:
    item = an_item()
    driver.fails_for, driver.error = frozenset({item.allocation_id}), DriverError("the rack is on fire")
    link.want(item)
    agent.step(0.0)
    assert (link.pushed[0].phase, link.pushed[0].message) == (Phase.FAILED, "the rack is on fire")


def test_a_driver_that_is_not_here_is_a_failure_with_a_code(agent: Agent, link: HeldLink) -> None:
    item = an_item()
    link.want(Item(item.allocation_id, item.node, "punch_cards", 1, "present", item.config))
    agent.step(0.0)
    assert (link.pushed[0].phase, link.pushed[0].code) == (Phase.FAILED, "no_driver")


def test_what_the_hardware_refuses_is_told(agent: Agent, link: HeldLink) -> None:
    first, second = an_item(3), an_item(3)
    link.want(first, second)
    agent.step(0.0)
    assert link.phases(first) == [Phase.READY]
    assert [r.code for r in link.pushed if r.allocation_id == second.allocation_id] == ["device_busy"]


def test_what_died_is_started_again_and_told(
    agent: Agent, link: HeldLink, driver: Moody, clock: ManualClock
) -> None:
    item = an_item(start_seconds=5.0)
    link.want(item)
    agent.step(0.0)
    pass_time(clock, 6.0)
    agent.step(0.0)
    assert link.phases(item)[-1] is Phase.READY
    driver.fail_node(item.node)
    driver.heal_node(item.node)  # what it held is gone
    told = len(link.pushed)
    pass_time(clock, OBSERVE_SECONDS)
    agent.step(0.0)
    assert driver.world()
    for _ in range(12):
        pass_time(clock, 1.0)
        agent.step(0.0)
    assert [report.phase for report in link.pushed[told:]][-1] is Phase.READY
    assert Phase.READY not in [report.phase for report in link.pushed[told:-1]]


def test_silent_nodes_are_told_when_they_fall_silent_and_when_they_are_back(
    agent: Agent, link: HeldLink, driver: Moody
) -> None:
    agent.step(0.0)
    assert link.pushes == []
    driver.fail_node("r01t03")
    agent.step(0.0)
    assert list(link.silent) == ["r01t03"]
    driver.heal_node("r01t03")
    agent.step(0.0)
    agent.step(0.0)
    assert list(link.silent) == []
    assert link.pushes == [0, 0]


def test_an_orphan_is_removed_after_it_was_unwanted_twice(
    agent: Agent, driver: Moody, clock: ManualClock
) -> None:
    orphan = an_item()
    driver.ensure(Wanted(orphan.allocation_id, 1, orphan.config))
    pass_time(clock, OBSERVE_SECONDS)
    agent.step(0.0)
    assert driver.world()
    pass_time(clock, OBSERVE_SECONDS)
    agent.step(0.0)
    assert driver.world() == {}


def test_an_orphan_that_cannot_be_removed_does_not_stop_the_loop(
    agent: Agent, link: HeldLink, driver: Moody, clock: ManualClock
) -> None:
    orphan, item = an_item(0), an_item(1)
    driver.ensure(Wanted(orphan.allocation_id, 1, orphan.config))
    driver.fails_for = frozenset({orphan.allocation_id})
    for _ in range(3):
        pass_time(clock, OBSERVE_SECONDS)
        agent.step(0.0)
    link.want(item)
    agent.step(0.0)
    assert link.phases(item) == [Phase.READY]


def test_an_unreachable_control_plane_never_removes_anything(
    link: HeldLink, driver: Moody, clock: ManualClock, tmp_path: Path
) -> None:
    stray = an_item()
    driver.ensure(Wanted(stray.allocation_id, 1, stray.config))
    link.pull_fails = OSError("no route")
    agent = Agent(link, {"simulated": driver}, clock, DesiredFile(tmp_path / "desired.json"))
    for _ in range(5):
        with pytest.raises(OSError, match="no route"):
            agent.step(0.0)
        agent._drive()
        pass_time(clock, OBSERVE_SECONDS)
    assert driver.world()


def test_a_failed_push_is_made_good_later_without_driving_again(
    agent: Agent, link: HeldLink, driver: Moody
) -> None:
    item = an_item()
    link.want(item)
    link.push_fails = UnavailableError("the database is away")
    with pytest.raises(UnavailableError):
        agent.step(0.0)
    assert driver.world()
    calls = driver.calls
    link.push_fails = None
    assert agent.step(0.0) == 1
    assert link.phases(item) == [Phase.READY]
    assert driver.calls == calls


def test_a_restarted_agent_keeps_things_running_without_a_control_plane(
    link: HeldLink, driver: Moody, clock: ManualClock, tmp_path: Path
) -> None:
    file = DesiredFile(tmp_path / "state" / "desired.json")
    item = an_item()
    link.want(item)
    Agent(link, {"simulated": driver}, clock, file).step(0.0)
    driver.fail_node(item.node)
    driver.heal_node(item.node)
    assert driver.world() == {}
    again = Agent(link, {"simulated": driver}, clock, file)
    again._drive()
    assert set(driver.world().values()) == {item.allocation_id}
    link.forget(item)  # while it was away the wish was withdrawn; a full pull says so
    again.step(0.0)
    assert file.read() == []


def test_a_spoilt_memory_is_an_empty_one(tmp_path: Path) -> None:
    file = tmp_path / "desired.json"
    for content in (b"", b"{", b"[1]", b'[{"allocation_id": "x"}]', b"\xff\xfe"):
        file.write_bytes(content)
        assert DesiredFile(file).read() == []


def test_a_full_disk_costs_the_memory_and_nothing_else(
    link: HeldLink, driver: Moody, clock: ManualClock, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "state"
    in_the_way.write_text("")  # not a folder: nothing can be written below it
    file = DesiredFile(in_the_way / "desired.json")
    item = an_item()
    link.want(item)
    agent = Agent(link, {"simulated": driver}, clock)
    agent._file = file
    agent.step(0.0)
    assert link.phases(item) == [Phase.READY]
    in_the_way.unlink()
    agent.step(0.0)
    assert [kept.allocation_id for kept in file.read()] == [item.allocation_id]


def test_run_survives_a_lost_link_and_goes_on_driving(link: HeldLink, tmp_path: Path) -> None:
    clock = SystemClock()
    driver = Moody(tmp_path / "world", clock, parse_site("1x2:H100", load_device_classes()))
    item, stop = an_item(start_seconds=0.5), threading.Event()
    link.want(item)
    agent = Agent(link, {"simulated": driver}, clock)
    thread = threading.Thread(target=agent.run, args=(stop,))
    thread.start()
    try:
        until(lambda: Phase.STARTED in link.phases(item) or Phase.PENDING in link.phases(item))
        link.pull_fails = link.push_fails = ValueError("not even a proper error")
        until(lambda: driver.observe()[0].phase is Phase.READY)
        assert thread.is_alive()
        assert Phase.READY not in link.phases(item)
        link.pull_fails = link.push_fails = None
        until(lambda: Phase.READY in link.phases(item))
    finally:
        stop.set()
        thread.join(timeout=10)
        driver.close()
    assert not thread.is_alive()


class Slow(SimulatedDriver):
    """Hardware that is ready once the test says so, and then speaks up by itself."""

    call: Callable[[], None]
    asked = 0

    def announce(self, call: Callable[[], None]) -> None:
        self.call = call

    def ensure_many(self, wanted: Sequence[Wanted]) -> Sequence[Observed]:
        self.asked += 1
        return super().ensure_many(wanted)


def test_what_a_driver_announces_is_reported_while_wishes_are_waited_for(
    link: HeldLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(START)
    driver = Slow(tmp_path / "world", clock, parse_site("1x2:H100", load_device_classes()))
    item, stop, waiting = an_item(start_seconds=60), threading.Event(), threading.Event()
    link.want(item)
    pull = link.pull

    def wait_for_wishes(after: int, wait_seconds: float) -> Pulled:
        if after:
            waiting.set()
            stop.wait(60)
        return pull(after, wait_seconds)

    monkeypatch.setattr(link, "pull", wait_for_wishes)
    thread = threading.Thread(target=Agent(link, {"simulated": driver}, clock).run, args=(stop,))
    thread.start()
    try:
        assert waiting.wait(20)
        assert Phase.READY not in link.phases(item)
        pass_time(clock, 60)
        driver.call()
        until(lambda: Phase.READY in link.phases(item))
        link.push_fails = UnavailableError("gone")
        driver.call()  # an outage that this thread meets is the other one's to tell
        link.push_fails = None
    finally:
        stop.set()
        thread.join(timeout=20)
        driver.close()
    assert not thread.is_alive()


def test_who_announces_the_end_of_its_work_is_not_asked_again_and_again(
    link: HeldLink, tmp_path: Path, clock: ManualClock
) -> None:
    driver = Slow(tmp_path / "world", clock, parse_site("1x2:H100", load_device_classes()))
    link.want(an_item(start_seconds=60))
    agent = Agent(link, {"simulated": driver}, clock)
    agent.step(0.0)
    for _ in range(20):
        pass_time(clock, 0.02)
        agent.step(0.0)
    assert driver.asked == 1
    pass_time(clock, RECHECK_SECONDS_MAX)
    agent.step(0.0)
    assert driver.asked == 2
    driver.close()
