"""`penstock up` where it cannot start: exit code 2, one sentence with the remedy on stderr, nothing left behind."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.factory_process import FactoryProcess
from tests.support.ports import free_port

SECRET = "s3cretpassword"
ANY_PORT = ("--port", "0", "--gateway-port", "0", "--agent-port", "0")
# Many bad starts in one interpreter: importing the product is most of what each would cost.
SCRIPT = """
import contextlib, io, json, os, sys
from penstock.up.command import run
told = []
for arguments, url in json.load(sys.stdin):
    os.environ.pop("PENSTOCK_DATABASE_URL", None)
    if url:
        os.environ["PENSTOCK_DATABASE_URL"] = url
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    told.append((code, err.getvalue(), out.getvalue()))
json.dump(told, sys.stdout)
"""


@dataclass(frozen=True)
class Told:
    """What a refused start said."""

    code: int
    error: str
    output: str


def refused(*cases: tuple[list[str], str | None]) -> list[Told]:
    """Start `penstock up` with each list of arguments and database URL; every one must be a clean refusal."""
    asked = [(["--no-demo", "--no-context", *arguments], url) for arguments, url in cases]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = [Told(*one) for one in json.loads(done.stdout)]
    for one in told:
        assert one.code == 2, one
        assert one.error.startswith("penstock: "), one
        assert one.error.count("\n") == 1, one
        assert "Traceback" not in one.error + one.output, one
        assert SECRET not in one.error + one.output, one
    return told


def arguments(data: Path, *more: str, simulated: str = "none") -> list[str]:
    """Return arguments for ``data``; what comes later wins."""
    return ["--data", str(data), "--simulated", simulated, *ANY_PORT, *more]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FactoryProcess]:
    """A factory that is in the way of others."""
    factory = FactoryProcess(
        tmp_path_factory.mktemp("up"), simulated="2x1:H100", port=free_port(), gateway_port=free_port()
    )
    factory.start()
    yield factory
    factory.stop()


@pytest.mark.timeout(240)
def test_what_is_taken_is_named_with_the_option_that_moves_it(
    running: FactoryProcess, tmp_path: Path
) -> None:
    assert running.process is not None
    facts = json.loads((running.data / "run.json").read_text())
    ports = {name: facts[f"{name}_url"].rpartition(":")[2] for name in ("api", "gateway", "agent")}
    same_folder, api, gateway, agents = refused(
        (arguments(running.data), None),
        (arguments(tmp_path / "a", "--port", ports["api"]), None),
        (arguments(tmp_path / "b", "--gateway-port", ports["gateway"]), None),
        (arguments(tmp_path / "c", "--agent-port", ports["agent"]), None),
    )
    assert f"process {running.process.pid}" in same_folder.error
    assert str(running.data) in same_folder.error
    for told, port, option in (
        (api, ports["api"], "--port"),
        (gateway, ports["gateway"], "--gateway-port"),
        (agents, ports["agent"], "--agent-port"),
    ):
        assert f"127.0.0.1:{port}" in told.error
        assert f"with {option}\n" in told.error
    assert leftovers(tmp_path) == []
    with running.client(running.keys().operator) as client:
        assert client.get("/healthz").status_code == 200


def test_a_folder_that_cannot_be_the_data_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "something").touch()
    shared.chmod(0o777)
    not_a_folder, below_a_file, no_such_place, open_to_all = refused(
        (arguments(file), None),
        (arguments(file / "below"), None),
        (arguments(Path("/proc/penstock")), None),
        (arguments(shared), None),
    )
    assert f"{file} is not a folder" in not_a_folder.error
    assert "cannot be used" in below_a_file.error
    assert "cannot be used" in no_such_place.error
    assert f"chmod 700 {shared}" in open_to_all.error
    assert sorted(path.name for path in shared.iterdir()) == ["something"]


def test_bad_options_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    data = tmp_path / "never-made"
    *sites, host = refused(
        (arguments(data, simulated="moon"), None),
        (arguments(data, simulated="2x2:NOPE"), None),
        (arguments(data, simulated="0x2:H100"), None),
        (arguments(data, "--host", "0.0.0.0"), None),  # noqa: S104 - it must be refused
    )
    assert "nvl72" in sites[0].error
    assert "H100" in sites[1].error  # the classes there are
    assert "1 to" in sites[2].error
    assert "--host 0.0.0.0" in host.error
    assert not data.exists()


def test_a_wrong_database_url_is_told_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = silent.getsockname()[1]
        no_url, other, refusing = refused(
            (arguments(tmp_path / "a"), f"nonsense:{SECRET}"),
            (arguments(tmp_path / "b"), f"mysql://penstock:{SECRET}@127.0.0.1/db"),
            (arguments(tmp_path / "c"), f"postgresql://penstock:{SECRET}@127.0.0.1:{port}/db"),
        )
    assert "PENSTOCK_DATABASE_URL is not a URL" in no_url.error
    assert "'mysql'" in other.error
    assert f"127.0.0.1:{port}/db cannot be reached" in refusing.error
    assert "PENSTOCK_DATABASE_URL" in refusing.error
    for log in tmp_path.glob("*/log/*"):
        assert SECRET not in log.read_text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB, which a database does not fit on."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_mended_by_space(small_disk: Path) -> None:
    data = small_disk / "data"
    (told,) = refused((arguments(data), None))
    assert "is full: free some space" in told.error
    assert str(data) in told.error
    assert not (data / "postgres" / "data").exists()
    read_only = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(read_only, check=True)
    (told,) = refused((arguments(data), None))
    assert "Read-only file system" in told.error
    subprocess.run(["mount", "-o", "remount,rw,size=400m", str(small_disk)], check=True)
    factory = FactoryProcess(small_disk, simulated="none", port=free_port(), gateway_port=free_port())
    try:
        factory.start()
    finally:
        factory.stop()


def test_a_fresh_folder_is_made_private(running: FactoryProcess) -> None:
    for path in (running.data, running.data / "keys", running.data / "pki"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o067 == 0, path
    for path in (running.data / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def leftovers(folder: Path) -> list[str]:
    """Return the command lines of processes that name a folder or work in it."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if any(str(folder) in part for part in command) or str(process.cwd()).startswith(str(folder)):
                found.append(" ".join(command))
        except psutil.Error:
            continue  # gone meanwhile
    return found
