"""What a pid file says, and that a number in it proves nothing."""

import os
from pathlib import Path

import pytest

from penstock.drivers.embedded_postgres.postmaster import (
    PidFile,
    is_server_on,
    read_pid_file,
    running_pid,
    servers_on,
)

RUNNING = "4711\n/srv/db/data\n1767225600\n5432\n/srv/db/run\n\n  8826964     65536\nready   \n"


def write(folder: Path, text: str) -> Path:
    (folder / "postmaster.pid").write_text(text)
    return folder


def test_a_complete_file(tmp_path: Path) -> None:
    assert read_pid_file(write(tmp_path, RUNNING)) == PidFile(4711, Path("/srv/db/run"), "ready")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (7, PidFile(4711, Path("/srv/db/run"), "")),
        (4, PidFile(4711, None, "")),
        (1, PidFile(4711, None, "")),
        (0, None),
    ],
)
def test_a_file_that_is_still_being_written(tmp_path: Path, lines: int, expected: PidFile | None) -> None:
    text = "".join(RUNNING.splitlines(keepends=True)[:lines])
    assert read_pid_file(write(tmp_path, text)) == expected


def test_a_server_that_runs_alone_has_its_number_negated(tmp_path: Path) -> None:
    found = read_pid_file(write(tmp_path, "-" + RUNNING))
    assert found is not None
    assert found.pid == 4711


def test_no_file_and_nonsense_are_no_server(tmp_path: Path) -> None:
    assert read_pid_file(tmp_path) is None
    assert read_pid_file(write(tmp_path, "soon\n")) is None
    assert running_pid(tmp_path) is None


def test_a_live_process_is_no_server_by_its_number(tmp_path: Path) -> None:
    write(tmp_path, RUNNING.replace("4711", str(os.getpid())))
    assert not is_server_on(os.getpid(), Path.cwd())
    assert running_pid(tmp_path) is None
    assert servers_on(tmp_path) == []


def test_a_number_that_nobody_has_is_no_server(tmp_path: Path) -> None:
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert not is_server_on(highest, tmp_path)
