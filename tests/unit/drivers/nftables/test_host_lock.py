"""One agent at a time has a host: who holds the lock, who is refused and why, and what frees it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from penstock.base.errors import HostHeldError
from penstock.drivers.base import CheckState
from penstock.drivers.nftables import host_lock
from penstock.drivers.nftables.host_lock import Holder, HostLock

FIRST, SECOND = (
    Holder(f"agt_{name}", name, f"the factory at https://{name}:7072") for name in ("one", "two")
)
_HOLD = """
import subprocess
import sys
from pathlib import Path
from penstock.drivers.nftables.host_lock import Holder, HostLock
lock = HostLock(Holder("agt_other", "other", "the factory at https://other:7072"), folder=Path(sys.argv[1]))
print(lock.refused(), subprocess.Popen(["sleep", "60"]).pid, flush=True)
sys.stdin.read()
"""


def lock(folder: Path, holder: Holder = FIRST, host: Path | None = None) -> HostLock:
    return HostLock(holder, host=host, folder=folder)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the host, and has started one that outlives it."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    refused, child = process.stdout.readline().split()
    assert refused == "None"
    yield process
    process.kill()
    process.wait()
    assert psutil.pid_exists(int(child)), "what it started outlived it"
    os.kill(int(child), signal.SIGKILL)
    process.communicate()


def test_the_second_agent_is_told_who_has_the_host_and_takes_over_when_that_one_is_killed(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    second = lock(tmp_path)
    why = second.refused()
    assert why is not None
    for word in ("'other'", "agt_other", "https://other:7072", f"process {other.pid}", "stop that one"):
        assert word in why
    with pytest.raises(HostHeldError) as raised:
        second.require()
    assert (raised.value.code, raised.value.sentence) == ("host_held", why)
    assert host_lock.holder(folder=tmp_path) == Holder(
        "agt_other", "other", "the factory at https://other:7072", other.pid
    )
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert host_lock.holder(folder=tmp_path) is None
    assert second.refused() is None
    second.require()
    second.release()


def test_whoever_has_it_keeps_it_and_gives_it_up_once(tmp_path: Path) -> None:
    first, second = lock(tmp_path), lock(tmp_path, SECOND)
    for _ in range(2):
        assert first.refused() is None
        assert "agt_one" in str(second.refused())
    first.release()
    first.release()
    assert second.refused() is None
    assert "agt_two" in str(first.refused())
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_hosts_are_network_namespaces(tmp_path: Path) -> None:
    elsewhere = tmp_path / "a-namespace"
    elsewhere.touch()
    folder = tmp_path / "locks"
    first, second = lock(folder), lock(folder, SECOND, elsewhere)
    assert (first.refused(), second.refused()) == (None, None)
    first.release()
    second.release()


def test_agents_that_come_at_once_are_one_that_has_it_and_others_that_have_not(tmp_path: Path) -> None:
    locks = [lock(tmp_path, Holder(f"agt_{number}", "x", "y")) for number in range(8)]
    with ThreadPoolExecutor(len(locks)) as pool:
        for _ in range(20):
            said = list(pool.map(HostLock.refused, locks))
            assert said.count(None) == 1
            for one in locks:
                one.release()


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1}'])
def test_a_holder_that_has_not_said_who_it_is_yet_still_has_it(tmp_path: Path, content: bytes) -> None:
    first = lock(tmp_path)
    assert first.refused() is None
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert "another agent, which has only just started" in str(lock(tmp_path, SECOND).refused())
    first.release()


def test_a_lock_that_cannot_be_used_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in str(lock(tmp_path / "file").refused())


def test_the_check_tells_of_another_holder_and_of_what_others_made(tmp_path: Path) -> None:
    first, second = lock(tmp_path), lock(tmp_path, SECOND)
    assert first.refused() is None
    good = host_lock.check(first, "load balancers", {"agt_one": 2})
    assert (good.name, good.state) == ("load-balancers", CheckState.OK)
    left = host_lock.check(first, "networks", {"agt_one": 2, "agt_gone": 3})
    assert (left.name, left.state) == ("networks", CheckState.WARNING)
    assert "networks of agt_gone: 3;" in left.message
    assert "agt_one" not in left.message
    refused = host_lock.check(second, "networks", {})
    assert (refused.state, refused.message) == (CheckState.WARNING, second.refused())
    first.release()
