"""The folder of one replica: its state file, its log, its config."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.drivers.base import Config
from penstock.drivers.processes.files import Identity, start_ticks, write_json
from penstock.drivers.processes.replica import Failure, Launch, Replica, State
from tests.support.waiting import until

CONFIG: Config = {"model_dir": "/models/x", "served_model_name": "x"}


def test_the_state_survives_its_file(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "alc")
    assert replica.load() is None
    state = State("alc", 3, CONFIG, [5, 6], Identity.of_this_process(6), 7, Failure("c", "m", "s"), 9)
    replica.save(state)
    assert replica.load() == state
    replica.save(State("alc", 4, CONFIG))
    assert replica.load() == State("alc", 4, CONFIG)


@pytest.mark.parametrize(
    "change", [{"config": "text"}, {"config": None}, {"failure": 3}, {"failure": ["too short"]}]
)
def test_a_state_that_is_not_ours_reads_as_none(tmp_path: Path, change: dict[str, Any]) -> None:
    replica = Replica(tmp_path / "alc")
    replica.save(State("alc", 1, CONFIG))
    write_json(replica.folder / "state.json", {**State("alc", 1, CONFIG).as_json(), **change})
    assert replica.load() is None


def test_what_the_server_announces_is_read_with_care(tmp_path: Path) -> None:
    replica = Replica(tmp_path)
    assert (replica.port(), replica.load_error(), replica.identity(None)) == (None, None, None)
    identity = Identity.of_this_process(1)
    write_json(
        tmp_path / "port.json", {**identity.as_json(), "port": 80, "error": {"code": "c", "message": "m"}}
    )
    assert (replica.port(), replica.load_error(), replica.identity(None)) == (80, ("c", "m"), identity)
    write_json(tmp_path / "port.json", {"port": "80", "error": "c"})
    assert (replica.port(), replica.load_error(), replica.identity(None)) == (None, None, None)


def test_the_log_tail_is_short_and_text(tmp_path: Path) -> None:
    replica = Replica(tmp_path)
    assert replica.log_tail() == ""
    replica.log_file.write_bytes(b"\xff" + b"".join(b"line %d\n" % number for number in range(1_000)))
    assert replica.log_tail().splitlines() == [f"line {number}" for number in range(992, 1_000)]


def test_deleting_leaves_nothing_even_after_a_delete_that_was_cut_short(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "alc")
    (tmp_path / ".removing-alc").mkdir()
    (tmp_path / ".removing-alc" / "left").write_text("x")
    replica.save(State("alc", 1, CONFIG))
    replica.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_chosen_port_is_written_and_the_last_end_takes_all_that_a_process_made(tmp_path: Path) -> None:
    replica, state = Replica(tmp_path / "alc"), State("alc", 1, CONFIG)
    sleeper = "import time; time.sleep(60)"
    program = f"import subprocess as s, sys; print(s.Popen([sys.executable, '-c', {sleeper!r}]).pid, flush=True); {sleeper}"
    assert replica.spawn(state, Launch([sys.executable, "-c", program], dict(os.environ), 8_123), 5)
    assert replica.port() == 8_123
    leader = state.process
    assert leader is not None
    assert replica.identity(state) == leader
    until(replica.log_tail, "it speaks")
    child = Identity.of(int(replica.log_tail()), 0)
    assert child is not None
    assert not replica.spawn(state, Launch([sys.executable, "-c", ""], dict(os.environ)), 6)  # one lives
    state.process = leader
    replica.signal(state, kill=True)
    os.waitpid(leader.pid, 0)
    until(lambda: start_ticks(child.pid) != child.start_ticks, "its child is gone")
    assert not replica.alive()
