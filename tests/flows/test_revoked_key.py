"""A key that is revoked at one API is refused by every process of a gateway that listens to another one.

The promise is a second. What a test can hold on a busy machine is that the news travels by itself: everything that
would bring it by the clock (the API looks again after 5 s, a gateway asks again after 20 s) is set to ten minutes.
"""

import http.client
import os
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

import psutil
import pytest
from fastapi.testclient import TestClient

from penstock.actions import gateway as gateway_actions
from penstock.base.clock import SystemClock
from tests.support.gateway_peers import TOKEN, Process
from tests.support.listeners import listening
from tests.support.replica import Replica
from tests.support.simulated_factory import SimulatedFactory
from tests.support.waiting import until

PROCESSES = 3
_SLOW_API = (
    "import penstock.actions.gateway as feed\nfeed.POLL_SECONDS = 600.0\nfeed.WAIT_SECONDS_MAX = 600.0\n"
)
_SLOW_GATEWAY = (
    "import sys, penstock.gateway.control as control\n"
    "from penstock.gateway.main import run\n"
    "control.WAIT_SECONDS = 600\n"
    "sys.exit(run(sys.argv[1:]))"
)


@pytest.fixture
def clock() -> SystemClock:
    """Real time: the replicas look at it."""
    return SystemClock()


@contextmanager
def api(folder: Path, database_url: str) -> Generator[str]:
    """Serve the API; give its address."""
    replica = Replica(folder, database_url, "api", "--port", "0", before=_SLOW_API)
    try:
        yield replica.said(r"http://127\.0\.0\.1:\d+")
    finally:
        replica.process.kill()
        replica.process.wait(20)


@contextmanager
def gateway(folder: Path, control_plane: str) -> Generator[Process]:
    """Serve tokens by several processes."""
    token = folder / "token"
    token.write_text(TOKEN)
    os.chmod(token, 0o600)  # noqa: PTH101 - as an operator would
    arguments = ("--listen", "127.0.0.1:0", "--control-plane", control_plane, "--token-file", str(token))
    more = ("--data", str(folder / "data"), "--processes", str(PROCESSES))
    process = Process(["-c", _SLOW_GATEWAY, *arguments, *more], folder / "gateway.log")
    try:
        yield process
    finally:
        process.stop()


class Lines:
    """A connection to every process of a gateway, kept open."""

    def __init__(self, gateway: Process) -> None:
        self._port = gateway.port
        self._children = psutil.Process(gateway.process.pid).children()
        self._lines: dict[int, http.client.HTTPConnection] = {}
        until(self._another, "a connection to each")

    def _another(self) -> bool:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        line.connect()
        own = line.sock.getsockname()[1]
        for child in self._children:
            if any(one.raddr and one.raddr.port == own for one in child.net_connections("tcp")):
                self._lines.setdefault(child.pid, line)
        if line not in self._lines.values():
            line.close()
        return len(self._lines) == PROCESSES

    def statuses(self, key: str) -> list[int]:
        """Return what each process answers to a key."""
        found: list[int] = []
        for line in self._lines.values():
            line.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})
            with closing(line.getresponse()) as answer:
                answer.read()
                found.append(answer.status)
        return found

    def close(self) -> None:
        """Close them."""
        for line in self._lines.values():
            line.close()


def test_it_is_refused_by_every_process_without_waiting_for_any_clock(
    tenant: TestClient, simulated: SimulatedFactory, tmp_path: Path, database_url: str
) -> None:
    gateway_actions.trust(simulated.plane.context, TOKEN)
    simulated.plane.wakeups.share(
        simulated.plane.db.raw_dsn()
    )  # this process is the API that is asked to revoke
    made = tenant.post("/v1/api-keys", json={"name": "short-lived", "scopes": ["llm"]})
    assert made.status_code == 201, made.text
    key = made.json()["api_key"]
    with api(tmp_path, database_url) as other_api, gateway(tmp_path, other_api) as served:
        until(lambda: len(listening(database_url)) == 2, "both APIs hear signals")
        with closing(Lines(served)) as lines:
            until(lambda: lines.statuses(key) == [200] * PROCESSES, "every process knows it")
            assert tenant.delete(f"/v1/api-keys/{made.json()['id']}").status_code == 200
            revoked = monotonic()
            until(lambda: lines.statuses(key) == [401] * PROCESSES, "every process refuses it")
            print(f"refused everywhere after {monotonic() - revoked:.3f} s")  # noqa: T201 - for who asks with -s
            assert lines.statuses(simulated.keys.demo_key) == [200] * PROCESSES, "others go on"
