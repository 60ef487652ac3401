"""The driver's own promises, on real processes: adoption, restarts, one process only, honest failures."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.base.clock import Clock, ManualClock, SystemClock
from penstock.base.errors import DriverError, InvalidInputError
from penstock.drivers.base import Observed, Phase, Wanted
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from penstock.drivers.ctranslate2.driver import CTranslate2Driver
from penstock.drivers.processes.files import Identity
from penstock.drivers.processes.replica import Replica
from tests.support import waiting

ALLOCATION = "alc_01k9zzzzzzzzzzzzzzzzzzzzzz"
Pids = Callable[[Path], list[int]]


def wanted(model: Path | None = None, generation: int = 1, name: str = "m") -> Wanted:
    config = {"model_dir": str(model or demo_model_dir()), "served_model_name": name}
    return Wanted(ALLOCATION, generation, config)


def poll(call: Callable[[], Observed], phase: Phase) -> Observed:
    return waiting.poll(call, lambda observed: observed.phase is phase)


@pytest.fixture
def state_dir(tmp_path: Path, count_replicas: Pids) -> Iterator[Path]:
    folder = tmp_path / "replicas"
    yield folder
    driver = CTranslate2Driver(folder, SystemClock())
    for observed in driver.observe():
        for pid in count_replicas(folder):
            os.kill(pid, signal.SIGKILL)
        poll(lambda one=observed: driver.remove(one.allocation_id), Phase.ABSENT)
    assert count_replicas(folder) == []


def make(state_dir: Path, clock: Clock | None = None, python: str = sys.executable) -> CTranslate2Driver:
    return CTranslate2Driver(state_dir, clock or SystemClock(), python, health_timeout_seconds=0.3)


def pid_of(state_dir: Path) -> int:
    identity = Replica(state_dir / ALLOCATION).identity(None)
    assert identity is not None
    return identity.pid


def test_a_ready_replica_answers_and_its_stamps_are_in_order(state_dir: Path) -> None:
    driver, before = make(state_dir), time.time_ns() // 1000
    observed = poll(lambda: driver.ensure(wanted()), Phase.READY)
    assert before <= observed.at_us["started"] < observed.at_us["ready"] <= time.time_ns() // 1000
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    answer = httpx.post(f"{observed.endpoint}/v1/chat/completions", json=body).json()
    assert answer["usage"]["completion_tokens"] > 0
    assert os.getsid(pid_of(state_dir)) == pid_of(state_dir)  # a session of its own
    assert Path(f"/proc/{pid_of(state_dir)}/fd/0").readlink() == Path("/dev/null")
    assert "ready after" in (state_dir / ALLOCATION / "engine.log").read_text()


def test_no_call_blocks(state_dir: Path) -> None:
    driver, longest = make(state_dir), 0.0
    phase = Phase.PENDING
    while phase is not Phase.READY:
        began = time.thread_time()
        phase = driver.ensure(wanted()).phase
        longest = max(longest, time.thread_time() - began)
        driver.observe()
    assert longest < 0.05  # processor time of the caller: the machine that tests run on may be busy


def test_a_killed_replica_is_started_again(state_dir: Path, count_replicas: Pids) -> None:
    driver = make(state_dir)
    first = poll(lambda: driver.ensure(wanted()), Phase.READY)
    old = pid_of(state_dir)
    os.kill(old, signal.SIGKILL)
    waiting.until(
        lambda: driver.ensure(wanted()).endpoint != first.endpoint
    )  # the kernel takes a moment to end it
    second = poll(lambda: driver.ensure(wanted()), Phase.READY)
    assert second.at_us["started"] > first.at_us["started"]
    assert count_replicas(state_dir) == [pid_of(state_dir)] != [old]
    assert not Path(f"/proc/{old}").exists()  # collected, no zombie is left


def test_a_hanging_replica_is_killed_and_started_again(state_dir: Path) -> None:
    driver = make(state_dir)
    poll(lambda: driver.ensure(wanted()), Phase.READY)
    old = pid_of(state_dir)
    os.kill(old, signal.SIGSTOP)
    assert driver.ensure(wanted()).phase is Phase.READY  # one late answer is not a hang
    poll(lambda: driver.ensure(wanted()), Phase.PENDING)
    poll(lambda: driver.ensure(wanted()), Phase.READY)
    assert pid_of(state_dir) != old


def test_a_replica_outlives_the_driver_and_is_adopted(state_dir: Path, count_replicas: Pids) -> None:
    program = f"""
import os, signal
from pathlib import Path
from penstock.base.clock import SystemClock
from penstock.drivers.base import Phase, Wanted
from penstock.drivers.ctranslate2.driver import CTranslate2Driver
driver = CTranslate2Driver(Path({str(state_dir)!r}), SystemClock())
wanted = Wanted({ALLOCATION!r}, 1, {dict(wanted().config)!r})
while driver.ensure(wanted).phase is not Phase.READY:
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    (pid,) = count_replicas(state_dir)
    driver = make(state_dir)
    (seen,) = driver.observe()
    assert seen.allocation_id == ALLOCATION
    assert poll(lambda: driver.ensure(wanted()), Phase.READY).endpoint is not None
    assert count_replicas(state_dir) == [pid]


def test_a_driver_killed_at_any_instant_never_leads_to_two(state_dir: Path, count_replicas: Pids) -> None:
    program = f"""
import sys
from pathlib import Path
from penstock.base.clock import SystemClock
from penstock.drivers.base import Wanted
from penstock.drivers.ctranslate2.driver import CTranslate2Driver
driver = CTranslate2Driver(Path({str(state_dir)!r}), SystemClock())
wanted = Wanted({ALLOCATION!r}, 1, {dict(wanted().config)!r})
print("go", flush=True)
while True:
    driver.ensure(wanted)
"""
    rng = random.Random(4)  # noqa: S311 - when to kill
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
        assert len(count_replicas(state_dir)) <= 1
        if rng.random() < 0.5:
            for pid in count_replicas(state_dir):
                os.kill(pid, signal.SIGKILL)
    driver = make(state_dir)
    # The start that was killed last counts too, so the generation is new: what is tested is the count.
    poll(lambda: driver.ensure(wanted(generation=2)), Phase.READY)
    assert count_replicas(state_dir) == [pid_of(state_dir)]


def test_two_drivers_at_once_start_one(state_dir: Path, count_replicas: Pids) -> None:
    most, stop = [0], threading.Event()

    def hammer() -> None:
        driver = make(state_dir)
        while not stop.is_set() and driver.ensure(wanted()).phase is not Phase.READY:
            pass

    threads = [threading.Thread(target=hammer) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most[0] = max(most[0], len(count_replicas(state_dir)))
        time.sleep(0.01)
    stop.set()
    assert most == [1]


def test_a_recycled_pid_is_never_killed(state_dir: Path) -> None:
    driver = make(state_dir)
    poll(lambda: driver.ensure(wanted()), Phase.READY)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        identity = Identity.of(bystander.pid, 0)
        assert identity is not None
        recycled = Identity(identity.pid, identity.start_ticks - 1, identity.boot_id, 0)
        other_boot = Identity(identity.pid, identity.start_ticks, "another boot", 0)
        assert not recycled.send(signal.SIGKILL)
        assert not other_boot.send(signal.SIGKILL)
        assert bystander.poll() is None
        assert identity.send(signal.SIGTERM)
        assert bystander.wait(timeout=10) == -signal.SIGTERM
        assert not identity.send(signal.SIGTERM)


def test_another_config_restarts_and_the_same_config_does_not(state_dir: Path, count_replicas: Pids) -> None:
    driver = make(state_dir)
    poll(lambda: driver.ensure(wanted()), Phase.READY)
    old = pid_of(state_dir)
    same = poll(lambda: driver.ensure(wanted(generation=2)), Phase.READY)
    assert (same.generation, pid_of(state_dir)) == (2, old)
    late = driver.ensure(wanted(generation=1, name="other"))
    assert (late.generation, pid_of(state_dir)) == (2, old)
    assert driver.ensure(wanted(generation=3, name="other")).phase is Phase.PENDING
    new = poll(lambda: driver.ensure(wanted(generation=3, name="other")), Phase.READY)
    assert new.generation == 3
    assert httpx.get(f"{new.endpoint}/v1/models").json()["data"][0]["id"] == "other"
    assert count_replicas(state_dir) == [pid_of(state_dir)] != [old]


def test_remove_kills_what_does_not_end_by_itself(state_dir: Path) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    poll(lambda: make(state_dir).ensure(wanted()), Phase.READY)
    pid = pid_of(state_dir)
    os.kill(pid, signal.SIGSTOP)
    driver = make(state_dir, clock)
    assert driver.remove(ALLOCATION).phase is Phase.PENDING
    clock.advance(timedelta(seconds=4))
    assert driver.remove(ALLOCATION).phase is Phase.PENDING
    time.sleep(0.1)
    assert Path(f"/proc/{pid}").exists()
    clock.advance(timedelta(seconds=2))
    assert driver.remove(ALLOCATION).phase is Phase.PENDING
    poll(lambda: driver.remove(ALLOCATION), Phase.ABSENT)
    assert not (state_dir / ALLOCATION).exists()


def test_what_a_crash_left_half_made_is_listed_and_removed(state_dir: Path) -> None:
    (state_dir / ALLOCATION).mkdir(parents=True)
    (state_dir / ALLOCATION / "state.json").write_text('{"half')
    driver = make(state_dir)
    assert [(one.allocation_id, one.phase) for one in driver.observe()] == [(ALLOCATION, Phase.PENDING)]
    assert driver.remove(ALLOCATION).phase is Phase.ABSENT
    assert driver.observe() == []


def test_a_hanging_replica_whose_state_is_lost_is_still_removed(state_dir: Path) -> None:
    poll(lambda: make(state_dir).ensure(wanted()), Phase.READY)
    os.kill(pid_of(state_dir), signal.SIGSTOP)
    (state_dir / ALLOCATION / "state.json").write_text("")
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert make(state_dir, clock).remove(ALLOCATION).phase is Phase.PENDING
    clock.advance(timedelta(seconds=6))
    driver = make(state_dir, clock)
    poll(lambda: driver.remove(ALLOCATION), Phase.ABSENT)


@pytest.mark.parametrize("file", ["model.bin", "tokenizer.json"])
def test_a_corrupt_model_fails_at_once_and_a_repaired_one_starts(
    state_dir: Path, model_copy: Path, file: str
) -> None:
    whole = (model_copy / file).read_bytes()
    (model_copy / file).write_bytes(whole[:-1] + b"?")
    driver = make(state_dir)
    failed = poll(lambda: driver.ensure(wanted(model_copy)), Phase.FAILED)
    assert failed.code == "model_corrupt"
    assert file in (failed.message or "")
    assert [(one.phase, one.code) for one in make(state_dir).observe()] == [(Phase.FAILED, "model_corrupt")]
    assert driver.ensure(wanted(model_copy)).phase is Phase.FAILED
    (model_copy / file).write_bytes(whole)
    poll(lambda: driver.ensure(wanted(model_copy)), Phase.READY)


def test_a_model_that_disappears_is_named(state_dir: Path, model_copy: Path) -> None:
    (model_copy / "model.bin").unlink()
    failed = poll(lambda: make(state_dir).ensure(wanted(model_copy)), Phase.FAILED)
    assert (failed.code, "model.bin" in (failed.message or "")) == ("model_corrupt", True)


def test_weights_that_no_checksum_covers_are_refused_by_the_engine(state_dir: Path, model_copy: Path) -> None:
    manifest = json.loads((model_copy / "manifest.json").read_text())
    del manifest["files"]
    (model_copy / "manifest.json").write_text(json.dumps(manifest))
    (model_copy / "model.bin").write_bytes((model_copy / "model.bin").read_bytes()[:100_000])
    driver = make(state_dir)
    failed = poll(lambda: driver.ensure(wanted(model_copy)), Phase.FAILED)
    assert failed.code == "model_corrupt"
    assert str(model_copy) in (failed.message or "")


def test_an_engine_that_keeps_ending_is_given_up_with_its_last_words(state_dir: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho the engine is out of steam >&2\nexit 1\n")
    python.chmod(0o755)
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    driver = make(state_dir, clock, str(python))
    for _ in range(400):
        observed = driver.ensure(wanted())
        if observed.phase is Phase.FAILED:
            break
        time.sleep(0.005)
        clock.advance(timedelta(milliseconds=50))
    assert observed.code == "engine_crash_loop"
    assert "the engine is out of steam" in (observed.message or "")
    state = Replica(state_dir / ALLOCATION).load()
    assert state is not None
    gaps_ms = [(after - before) // 1_000 for before, after in pairwise(state.starts_us)]
    assert [gap // 250 for gap in gaps_ms] == [1, 2, 4, 8]  # each wait is twice the one before
    clock.advance(timedelta(hours=1))
    assert driver.ensure(wanted()).phase is Phase.FAILED  # it does not come by itself
    again = make(state_dir)  # on the machine's clock: a real engine answers in real time
    poll(lambda: again.ensure(wanted(generation=2)), Phase.READY)  # a new generation is a new try


def test_a_full_disk_is_said_and_nothing_is_started(state_dir: Path, count_replicas: Pids) -> None:
    (state_dir / ALLOCATION).mkdir(parents=True)
    (state_dir / ALLOCATION / "state.json.new").symlink_to("/dev/full")
    driver = make(state_dir)
    failed = driver.ensure(wanted())
    assert (failed.phase, failed.code) == (Phase.FAILED, "disk_full")
    assert count_replicas(state_dir) == []
    (state_dir / ALLOCATION / "state.json.new").unlink()
    poll(lambda: driver.ensure(wanted()), Phase.READY)


def test_a_missing_interpreter_is_an_error_of_the_driver(state_dir: Path) -> None:
    driver = make(state_dir, python="/nowhere/python")
    with pytest.raises(DriverError):
        poll(lambda: driver.ensure(wanted()), Phase.READY)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model_dir": "models/x"}, "model_dir"),
        ({"model_dir": "/nowhere"}, "model_dir"),
        ({"model_dir": 3}, "model_dir"),
        ({"served_model_name": ""}, "served_model_name"),
        ({"threads": True}, "threads"),
        ({"threads": 257}, "threads"),
        ({"device": "tpu"}, "device"),
        ({"device": ["cpu"]}, "device"),
        ({"extra": 1}, "extra"),
    ],
)
def test_validate_names_the_field(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    config: dict[str, Any] = {"model_dir": str(demo_model_dir()), "served_model_name": "m", **change}
    with pytest.raises(InvalidInputError) as caught:
        make(tmp_path / "state").validate(config)
    assert caught.value.field == field
    assert not (tmp_path / "state").exists()


def test_a_model_of_the_package_is_found_wherever_the_package_is(tmp_path: Path) -> None:
    driver = make(tmp_path / "state")
    driver.validate({"model_dir": "package:penstock-demo-5m", "served_model_name": "m"})
    for absent, why in (("package:gone", "another version of Penstock"), ("/nowhere/m", "copy it there")):
        with pytest.raises(InvalidInputError, match=why):
            driver.validate({"model_dir": absent, "served_model_name": "m"})
        wish = Wanted("alc_1", 1, {"model_dir": absent, "served_model_name": "m"})
        failed = poll(functools.partial(driver.ensure, wish), Phase.FAILED)
        assert failed.code == "model_corrupt"
        assert why in (failed.message or "")
        driver.remove("alc_1")


@pytest.mark.parametrize(
    "reference", ["package:", "package:../m", "package:a/b", "package:.x", "models/m", "a\0"]
)
def test_what_names_no_model_is_refused(tmp_path: Path, reference: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make(tmp_path / "state").ensure(
            Wanted("alc_1", 1, {"model_dir": reference, "served_model_name": "m"})
        )
    assert caught.value.field == "model_dir"


@pytest.mark.parametrize("allocation_id", ["", "..", "a/b", ".hidden", "a" * 200, "a\n"])
def test_an_id_can_never_leave_the_folder(tmp_path: Path, allocation_id: str) -> None:
    driver = make(tmp_path / "state")
    with pytest.raises(InvalidInputError):
        driver.remove(allocation_id)
    with pytest.raises(InvalidInputError):
        driver.ensure(Wanted(allocation_id, 1, wanted().config))
