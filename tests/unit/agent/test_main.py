"""The agent as a process of its own: joined over TLS, killed, started again, stopped."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
import structlog

from penstock.agent import main
from penstock.base.ids import new_id
from penstock.drivers import wire
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from tests.support.agent_listener import Factory, listening
from tests.support.relay import Caller
from tests.support.waiting import until

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """What the agent sets up for its own process does not outlive the test that ran it in ours."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[Factory, str]]:
    with listening(tmp_path / "ca") as (factory, url):
        yield factory, url


class Machine:
    """A state folder and the agent process that works with it, if any."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        self.log = (self.folder.parent / "agent.log").open("ab")
        command = [sys.executable, "-m", "penstock", "agent", *arguments, "--state-dir", str(self.folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self.log)

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        self.process = None
        self.log.close()
        return status


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "state")
    yield made
    if made.process is not None:
        made.end(signal.SIGKILL)
    for process in psutil.process_iter(["cmdline"]):  # replicas outlive their agent; not this test
        if str(made.folder) in " ".join(process.info["cmdline"] or []):
            with contextlib.suppress(psutil.NoSuchProcess):  # gone already is what we want
                process.kill()
                process.wait(10)


def token_file(factory: Factory, folder: Path) -> Path:
    file = folder / "token"
    file.write_text(factory.new_token() + "\n")
    return file


def a_replica() -> wire.Wish:
    config = {"model_dir": str(demo_model_dir()), "served_model_name": "demo"}
    return wire.Wish(new_id("allocation", START), "worker-1", "ctranslate2", 1, "present", config)


def is_served(factory: Factory, wish: wire.Wish, folder: Path) -> str:
    """Return where the gateway reaches the replica."""
    endpoints = [
        one.endpoint for one in factory.observed if one.allocation_id == wish.allocation_id and one.endpoint
    ]
    assert endpoints
    url = str(endpoints[-1])
    until(lambda: is_open(factory, wish, url, folder))
    return url


def is_open(factory: Factory, wish: wire.Wish, url: str, folder: Path) -> bool:
    """Tell whether the gateway reaches the replica at ``url``."""
    (agent_id,) = factory.agents
    try:
        caller = Caller(factory.ca, folder / "relay")
        return caller.request("GET", url, wish.allocation_id, agent_id, "/v1/models").is_success
    except httpx.TransportError:
        return False


def test_it_joins_offers_this_machine_serves_and_is_replaced_without_a_gap(
    listener: tuple[Factory, str], machine: Machine, tmp_path: Path
) -> None:
    factory, url = listener
    file = token_file(factory, tmp_path)
    machine.start("join", "--url", url, "--token-file", str(file), "--name", "worker-1")
    until(lambda: factory.enrolments)
    (node,) = factory.enrolments[0].nodes
    assert node.name == "worker-1"
    assert node.memory_bytes > 1 << 28
    assert "ctranslate2" in factory.enrolments[0].drivers["worker-1"], (
        "beside what else this machine can carry"
    )
    wish = a_replica()
    factory.want(wish)
    until(lambda: "ready" in factory.phases(wish.allocation_id))
    assert factory.enrolments[0].serve_host == "127.0.0.1"
    address = is_served(factory, wish, tmp_path)
    replica = replicas_of(wish)

    assert machine.end(signal.SIGKILL) == -signal.SIGKILL
    assert replicas_of(wish) == replica  # what runs goes on running
    told = len(factory.observed)
    machine.start("run")
    until(lambda: len(factory.observed) > told)
    until(lambda: factory.phases(wish.allocation_id)[-1] == "ready")
    assert is_served(factory, wish, tmp_path) == address
    assert replicas_of(wish) == replica  # the same process, adopted

    assert machine.end(signal.SIGTERM) == 0
    assert replicas_of(wish) == replica
    machine.start("run", "--stop-services", "--serve-at", "localhost")
    until(lambda: len(factory.enrolments) == 3)
    assert factory.enrolments[2].serve_host == "localhost"
    until(lambda: factory.observed[-1].endpoint and "//localhost:" in factory.observed[-1].endpoint)
    is_served(factory, wish, tmp_path)
    assert machine.end(signal.SIGINT) == 0
    assert replicas_of(wish) == []


def test_it_goes_on_serving_while_the_control_plane_is_away(machine: Machine, tmp_path: Path) -> None:
    wish = a_replica()
    with listening(tmp_path / "ca") as (factory, url):
        file = token_file(factory, tmp_path)
        machine.start("join", "--url", url, "--token-file", str(file), "--name", "worker-1")
        factory.want(wish)
        until(lambda: "ready" in factory.phases(wish.allocation_id))
        address = is_served(factory, wish, tmp_path)
        machine.end(signal.SIGTERM)
    assert machine.process is None
    machine.start("run")  # nobody answers any more; the replica is found by what is on the disk
    victims = replicas_of(wish)
    for victim in victims:
        victim.kill()
        with contextlib.suppress(psutil.NoSuchProcess):  # gone already is what we want
            victim.wait(10)
    assert victims
    until(lambda: replicas_of(wish))
    until(
        lambda: is_open(factory, wish, address, tmp_path)
    )  # the door leads to the new one, unheard by anybody
    assert machine.end(signal.SIGTERM) == 0
    assert not any(process in victims for process in replicas_of(wish))


def replicas_of(wish: wire.Wish) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if wish.allocation_id in " ".join(process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["run"], {}, "has not joined a factory yet"),
        (["join", "--url", "http://x"], {"PENSTOCK_JOIN_TOKEN": "pjt_x"}, "no address of a factory"),
        (["join", "--url", "https://127.0.0.1:1"], {}, "--token-file"),
        (["join", "--url", "https://127.0.0.1:1"], {"PENSTOCK_JOIN_TOKEN": "pjt_x"}, "no join token"),
        (["join", "--url", "https://x", "--token-file", "/nowhere"], {}, "/nowhere cannot be read"),
        (["run", "--serve-at", "0.0.0.0"], {}, "names no machine"),  # noqa: S104 - refused, not listened on
        (["run", "--serve-at", "http://x/"], {}, "is no address"),
        (
            ["join", "--url", "https://x", "--name", "x" * 64],
            {"PENSTOCK_JOIN_TOKEN": "x"},
            "--name has 1 to 63",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    environment: dict[str, str],
    said: str,
) -> None:
    monkeypatch.delenv("PENSTOCK_JOIN_TOKEN", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main.run([*arguments, "--state-dir", str(tmp_path / "state")]) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_a_token_from_the_environment_or_standard_input_joins_once(
    listener: tuple[Factory, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    factory, url = listener
    joining = ["join", "--url", url, "--only-join", "--state-dir", str(tmp_path / "state")]
    monkeypatch.setenv("PENSTOCK_JOIN_TOKEN", factory.new_token())
    assert main.run(joining) == 0
    assert "joined https://127.0.0.1" in capsys.readouterr().out
    assert main.run(joining) == 1
    assert "already" in capsys.readouterr().err
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        pipe.write(factory.new_token())
    with os.fdopen(read) as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        assert main.run([*joining, "--replace", "--token-file", "-"]) == 0
    identity = json.loads((tmp_path / "state" / "identity" / "identity.json").read_text())
    assert identity["agent_id"] == list(factory.agents)[-1]


def test_a_token_is_never_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.run(["join", "--help"])
    assert "--token " not in capsys.readouterr().out
