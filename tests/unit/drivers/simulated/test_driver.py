"""The simulated hardware: it refuses what cannot be, forgets nothing when killed, and says that it is simulated."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import ManualClock, to_epoch_us
from penstock.base.errors import InvalidInputError, StartupError
from penstock.base.ids import new_id
from penstock.domain.device import load_device_classes
from penstock.drivers.base import Phase, Wanted
from penstock.drivers.simulated import driver as module
from penstock.drivers.simulated.driver import SimulatedDriver
from penstock.drivers.simulated.site import parse_site

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = to_epoch_us(START)
CLASSES = load_device_classes()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def driver(tmp_path: Path, clock: ManualClock) -> Iterator[SimulatedDriver]:
    made = SimulatedDriver(tmp_path, clock, parse_site("2x8:H100", CLASSES))
    yield made
    made.close()


def wanted(
    *pieces: tuple[int, int], node: str = "r01t01", generation: int = 1, name: str = "", **more: Any
) -> Wanted:
    config = {"node": node, "devices": [{"index": i, "mask": m} for i, m in pieces], **more}
    return Wanted(name or new_id("allocation", START), generation, config)


def reopened(driver: SimulatedDriver, folder: Path, clock: ManualClock) -> SimulatedDriver:
    driver.close()
    return SimulatedDriver(folder, clock, parse_site("2x8:H100", CLASSES))


def test_one_slice_is_never_given_to_two(driver: SimulatedDriver) -> None:
    first, overlap, beside = wanted((0, 0b0011)), wanted((0, 0b0110)), wanted((0, 0b1100))
    assert driver.ensure(first).phase is Phase.READY
    refused = driver.ensure(overlap)
    assert (refused.phase, refused.code) == (Phase.FAILED, "device_busy")
    assert "device 0 of r01t01" in str(refused.message)
    assert driver.ensure(beside).phase is Phase.READY
    holders = driver.world()
    assert [holders["r01t01", 0, bit] for bit in range(4)] == [first.allocation_id] * 2 + [
        beside.allocation_id
    ] * 2
    driver.remove(first.allocation_id)
    driver.remove(beside.allocation_id)
    assert driver.ensure(overlap).phase is Phase.READY


def test_a_refused_order_of_several_devices_holds_none_of_them(driver: SimulatedDriver) -> None:
    driver.ensure(wanted((3, 1)))
    assert driver.ensure(wanted((2, 1), (3, 1))).code == "device_busy"
    assert {key[1] for key in driver.world()} == {3}


def test_what_moves_lets_go_of_what_it_had(driver: SimulatedDriver) -> None:
    one = wanted((0, 1))
    driver.ensure(one)
    moved = wanted((5, 1), node="r02t01", name=one.allocation_id, generation=2)
    assert driver.ensure(moved).generation == 2
    assert driver.world() == {("r02t01", 5, 0): one.allocation_id}


@pytest.mark.parametrize(("node", "index"), [("r09t09", 0), ("r01t01", 8), ("r01t01", -1)])
def test_what_this_site_does_not_have_is_refused(driver: SimulatedDriver, node: str, index: int) -> None:
    answer = driver.ensure(wanted((index, 1), node=node))
    assert (answer.phase, answer.code) == (Phase.FAILED, "no_such_device")
    assert driver.world() == {}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "node"),
        ({"node": 1}, "node"),
        ({"node": "r09t01", "devices": [{"index": 0, "mask": 1}]}, "node"),
        ({"node": "r01t01", "devices": []}, "devices"),
        ({"node": "r01t01", "devices": [1]}, "devices"),
        ({"node": "r01t01", "devices": [{"index": 0, "mask": 0}]}, "devices"),
        ({"node": "r01t01", "devices": [{"index": "0", "mask": 1}]}, "devices"),
        ({"node": "r01t01", "devices": [{"index": 8, "mask": 1}]}, "devices.index"),
        ({"node": "r01t01", "devices": [{"index": 0, "mask": 1}], "start_seconds": -1}, "start_seconds"),
        ({"node": "r01t01", "devices": [{"index": 0, "mask": 1}], "start_seconds": True}, "start_seconds"),
        ({"node": "r01t01", "devices": [{"index": 0, "mask": 1}], "colour": "red"}, "colour"),
    ],
)
def test_validate_names_the_field(driver: SimulatedDriver, config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        driver.validate(config)
    assert caught.value.field == field


@pytest.mark.parametrize("pieces", [((0, 1), (0, 2)), ((0, 0x80),), ((0, True),), ((True, 1),)])
def test_devices_that_cannot_be_are_refused_and_never_held(
    driver: SimulatedDriver, pieces: tuple[tuple[int, int], ...]
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        driver.validate(wanted(*pieces).config)
    assert str(caught.value.field).startswith("devices")
    try:
        assert driver.ensure(wanted(*pieces)).phase is Phase.FAILED
    except InvalidInputError as error:
        assert "devices" in str(error.field)  # noqa: PT017 - either answer is a refusal
    assert driver.world() == {}


def test_a_second_process_is_refused_by_name_until_the_first_lets_go(
    driver: SimulatedDriver, tmp_path: Path, clock: ManualClock
) -> None:
    one = wanted((0, 1))
    driver.ensure(one)
    with pytest.raises(StartupError, match=f"in use by process {os.getpid()}"):
        SimulatedDriver(tmp_path, clock, parse_site("2x8:H100", CLASSES))
    again = reopened(driver, tmp_path, clock)
    assert set(again.world().values()) == {one.allocation_id}
    again.close()


def test_a_world_that_is_large_is_not_rewritten_at_every_change(
    driver: SimulatedDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOURNAL_BYTES_MAX", 1_000)
    driver.ensure_many([wanted((index, 1 << bit)) for index in range(8) for bit in range(7)])
    before = (tmp_path / "world.jsonl").stat().st_ino
    driver.ensure(wanted((0, 1), node="r02t01"))
    assert (tmp_path / "world.jsonl").stat().st_ino == before


def test_starting_takes_as_long_as_asked_and_the_stamps_are_exact(
    driver: SimulatedDriver, clock: ManualClock
) -> None:
    one = wanted((0, 1), start_seconds=2.5)
    assert driver.ensure(one).phase is Phase.STARTED
    clock.advance(timedelta(seconds=2.499))
    assert driver.ensure(one).phase is Phase.STARTED
    clock.advance(timedelta(seconds=0.001))
    ready = driver.ensure(one)
    assert ready.phase is Phase.READY
    assert ready.at_us == {"started": START_US, "ready": START_US + 2_500_000}
    assert ready.busy_permille is not None
    assert 300 <= ready.busy_permille <= 1_000
    assert driver.observe() == [ready]


def test_a_failed_node_says_nothing_and_comes_back_empty(
    driver: SimulatedDriver, tmp_path: Path, clock: ManualClock
) -> None:
    lost, kept = wanted((0, 1)), wanted((0, 1), node="r02t01")
    driver.ensure_many([lost, kept])
    driver.fail_node("r01t01")
    assert driver.silent_nodes() == ["r01t01"]
    assert [seen.allocation_id for seen in driver.observe()] == [kept.allocation_id]
    assert driver.ensure(lost).phase is Phase.PENDING
    assert driver.remove(lost.allocation_id).phase is Phase.PENDING
    again = reopened(driver, tmp_path, clock)
    try:
        assert again.silent_nodes() == ["r01t01"]
        again.heal_node("r01t01")
        assert again.silent_nodes() == []
        assert set(again.world().values()) == {kept.allocation_id}
        assert again.remove(lost.allocation_id).phase is Phase.ABSENT
        again.heal_node("r02t01")  # was never failed: nothing of it is lost
        assert set(again.world().values()) == {kept.allocation_id}
    finally:
        again.close()


@pytest.mark.parametrize("verb", ["fail_node", "heal_node"])
def test_only_nodes_of_the_site_can_fail(driver: SimulatedDriver, verb: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        getattr(driver, verb)("r09t09")
    assert caught.value.field == "node"


def test_the_world_outlives_the_process_and_the_journal_is_compacted(
    driver: SimulatedDriver, tmp_path: Path, clock: ManualClock
) -> None:
    one = wanted((0, 1), (1, 3))
    for generation in range(1, 50):
        driver.ensure(Wanted(one.allocation_id, generation, one.config))
        gone = wanted((5, 1))
        driver.ensure(gone)
        driver.remove(gone.allocation_id)
    file = tmp_path / "world.jsonl"
    assert len(file.read_bytes().splitlines()) > 100
    world = driver.world()
    again = reopened(driver, tmp_path, clock)
    try:
        assert again.world() == world
        assert len(file.read_bytes().splitlines()) == 1
        assert again.ensure(Wanted(one.allocation_id, 49, one.config)).generation == 49
    finally:
        again.close()


def test_a_long_journal_is_compacted_while_running(
    driver: SimulatedDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOURNAL_BYTES_MAX", 2_000)
    for _ in range(100):
        gone = wanted((5, 1))
        driver.ensure(gone)
        driver.remove(gone.allocation_id)
    assert (tmp_path / "world.jsonl").stat().st_size <= 2_300


def test_what_could_not_be_written_down_did_not_happen(
    driver: SimulatedDriver, tmp_path: Path, clock: ManualClock
) -> None:
    before = wanted((0, 1))
    driver.ensure(before)
    descriptor = driver._journal._descriptor
    assert descriptor is not None
    full = os.open("/dev/full", os.O_WRONLY)
    driver._journal._descriptor = full
    try:
        for work in (
            lambda: driver.ensure(wanted((1, 1))),
            lambda: driver.remove(before.allocation_id),
            lambda: driver.fail_node("r01t01"),
        ):
            with pytest.raises(OSError, match="No space left"):
                work()
    finally:
        driver._journal._descriptor = descriptor
        os.close(full)
    assert set(driver.world().values()) == {before.allocation_id}
    assert driver.silent_nodes() == []
    again = reopened(driver, tmp_path, clock)
    assert set(again.world().values()) == {before.allocation_id}
    again.close()


def test_kill_9_in_the_middle_leaves_a_world_that_holds_what_was_promised(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from penstock.base.clock import SystemClock\n"
        "from penstock.domain.device import load_device_classes\n"
        "from penstock.drivers.base import Wanted\n"
        "from penstock.drivers.simulated.driver import SimulatedDriver\n"
        "from penstock.drivers.simulated.site import parse_site\n"
        "driver = SimulatedDriver(Path(sys.argv[1]), SystemClock(), parse_site('8x8:H100', load_device_classes()))\n"
        "for n in range(10**9):\n"
        "    name, place = f'alc_{n}', (n % 8, n // 8 % 8)\n"
        "    config = {'node': f'r01t{place[0] + 1:02d}', 'devices': [{'index': place[1], 'mask': 1}]}\n"
        "    assert driver.ensure(Wanted(name, 1, config)).phase == 'ready'\n"
        "    sys.stdout.write(f'held {name}\\n'); sys.stdout.flush()\n"
        "    if n >= 32:\n"
        "        driver.remove(f'alc_{n - 32}')\n"
        "        sys.stdout.write(f'gone alc_{n - 32}\\n'); sys.stdout.flush()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        told = [process.stdout.readline() for _ in range(500)]
        os.kill(process.pid, signal.SIGKILL)
        told += [line for line in process.stdout.read().splitlines() if line.count("_") == 1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    held: set[str] = set()
    for word, name in (line.split() for line in told):
        (held.add if word == "held" else held.discard)(name)
    driver = SimulatedDriver(tmp_path, ManualClock(START), parse_site("8x8:H100", CLASSES))
    try:
        found = set(driver.world().values())
        assert len(found ^ held) <= 1  # the one whose answer the kill cut off
        assert len(driver.world()) == len(found)
    finally:
        driver.close()


def test_two_threads_never_hold_the_same_device(driver: SimulatedDriver) -> None:
    ready: list[int] = []
    gate = threading.Barrier(4)

    def grab() -> None:
        gate.wait()
        ready.extend(i for i in range(8) if driver.ensure(wanted((i, 0b1111))).phase is Phase.READY)

    threads = [threading.Thread(target=grab) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ready) == list(range(8))


def test_a_whole_site_is_driven_in_one_call_and_its_speed_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How quick depends on the machine and is no matter of right or wrong: it is printed, not asserted."""
    driver = SimulatedDriver(tmp_path, ManualClock(START), parse_site("1250x8:H100", CLASSES))
    many = [wanted((index, 1), node=node.name) for node in driver.inventory().nodes for index in range(8)]
    began = time.perf_counter()
    answers = driver.ensure_many(many)
    seconds = time.perf_counter() - began
    driver.close()
    assert {answer.phase for answer in answers} == {Phase.READY}
    assert [answer.allocation_id for answer in answers] == [one.allocation_id for one in many]
    with capsys.disabled():
        print(f"\nensure_many: {len(many) / seconds:,.0f} simulated allocations a second")  # noqa: T201 - the report is the point


def test_a_node_that_is_off_runs_nothing_and_wakes_in_its_time(
    driver: SimulatedDriver, clock: ManualClock, tmp_path: Path
) -> None:
    driver.set_power("r01t01", on=False)
    driver.set_power("r01t01", on=False)
    assert sorted(driver.power().values()) == ["off", "on"]
    want = wanted((0, 127))
    assert driver.ensure(want).phase is Phase.PENDING
    again = reopened(driver, tmp_path, clock)
    assert again.power()["r01t01"] == "off", "as it was before the restart"
    again.set_power("r01t01", on=True)
    assert again.power()["r01t01"] == "waking"
    assert again.ensure(want).phase is Phase.PENDING
    clock.advance(timedelta(seconds=module.WAKE_SECONDS))
    assert again.power()["r01t01"] == "on"
    assert again.ensure(want).phase is Phase.READY
    again.set_power("r01t01", on=False)
    assert again.world() == {}, "turning it off ends what runs there"
    with pytest.raises(InvalidInputError, match="no node"):
        again.set_power("elsewhere", on=True)
    again.close()


def test_sensors_follow_what_runs_and_are_silent_where_nothing_answers(
    driver: SimulatedDriver, clock: ManualClock
) -> None:
    idle = {(one.node, one.index): one for one in driver.sensors()}
    assert len(idle) == 16
    assert {one.watts for one in idle.values()} == {105}, "15 % of 700 W"
    want, part = wanted((0, 127)), wanted((1, 1))
    late = wanted((2, 127), start_seconds=60)
    driver.ensure_many([want, part, late])
    busy = {(one.node, one.index): one for one in driver.sensors()}
    drawn = [busy["r01t01", index].watts or 0 for index in range(4)]
    assert 700 >= drawn[0] > drawn[1] > drawn[2] == drawn[3] == 105
    assert (busy["r01t01", 0].celsius or 0) > (idle["r01t01", 0].celsius or 0)
    assert list(busy.values()) == driver.sensors(), "the same each time"
    clock.advance(timedelta(seconds=60))
    assert {one.index for one in driver.sensors() if one.watts != 105} == {0, 1, 2}
    driver.fail_node("r01t01")
    driver.set_power(next(node for node in driver.power() if node != "r01t01"), on=False)
    assert driver.sensors() == []
