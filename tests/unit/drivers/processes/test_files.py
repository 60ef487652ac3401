"""Files, locks and process identities, against the real kernel."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.drivers.processes.files import (
    Identity,
    exclusive,
    is_locked,
    read_json,
    reap,
    start_ticks,
    write_json,
)


def test_what_is_written_is_read_and_a_failed_write_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "state.json.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff", b" " * (1 << 21)])
def test_what_is_no_object_reads_as_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    assert read_json(tmp_path / "f") is None
    assert read_json(tmp_path / "missing") is None


def test_a_lock_passes_to_a_child_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor]
    ) as child:
        os.close(descriptor)
        assert is_locked(path)
        with exclusive(path, wait_seconds=0.01) as held:
            assert held is None
        child.kill()
    assert not is_locked(path)
    with exclusive(path, wait_seconds=0) as held:
        assert held is not None
        assert is_locked(path)


def test_a_process_name_with_brackets_does_not_confuse_the_start_time(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 2 (b"
    odd.symlink_to(sys.executable)
    with subprocess.Popen([str(odd), "-c", "input()"], stdin=subprocess.PIPE) as child:
        ticks, own = start_ticks(child.pid), start_ticks(os.getpid())
        child.kill()
    assert ticks is not None
    assert own is not None
    assert ticks >= own


def test_a_zombie_is_gone_and_can_be_collected() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(child.pid) is None
    assert Identity.of(child.pid, 0) is None
    reap(child.pid)
    assert not Path(f"/proc/{child.pid}").exists()
    reap(child.pid)  # nobody's child any more: fine
    child.wait()


def test_an_identity_survives_its_file() -> None:
    identity = Identity.of_this_process(5)
    assert Identity.from_json(identity.as_json()) == identity == Identity.of(os.getpid(), 5)
    for broken in (None, {}, {**identity.as_json(), "pid": "1"}, {**identity.as_json(), "boot_id": 3}):
        assert Identity.from_json(broken) is None
