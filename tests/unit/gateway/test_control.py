"""The threads to the control plane, against one that answers over real sockets."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.gateway.control import Backoff, ControlPlaneError, Deliverer, Link, SnapshotPoller, read_token
from penstock.gateway.journal import Journal
from penstock.gateway.records import final_line
from penstock.gateway.snapshot import Snapshot
from tests.support.gateway_peers import TOKEN, ControlPlane, key_entry
from tests.support.waiting import until


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    control = ControlPlane()
    control.start()
    yield control
    control.stop()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


def progress_line(record: dict[str, Any]) -> bytes:
    """Return the line of a request that still runs."""
    return final_line({**record, "progress": True})


def record(identity: str) -> dict[str, object]:
    return {"id": identity, "tenant": "ten_a", "prompt_tokens": 1, "completion_tokens": 2, "ending": "stop"}


def test_snapshots_are_taken_cached_and_confirmed(tmp_path: Path, plane: ControlPlane, token: Path) -> None:
    taken: list[Snapshot] = []
    failed = threading.Event()
    poller = SnapshotPoller(
        Link(plane.url, token),
        tmp_path / "snapshot.json",
        SystemClock(),
        taken=taken.append,
        confirmed=lambda: None,
        failed=failed.set,
    )
    poller.start()
    until(lambda: [s.version for s in taken] == [1], "the first")
    plane.publish(keys=[key_entry("a")])
    until(lambda: [s.version for s in taken] == [1, 2], "the second")
    assert json.loads((tmp_path / "snapshot.json").read_text())["version"] == 2
    plane.stop()
    assert failed.wait(10)
    plane.start()
    plane.publish(keys=[])
    until(lambda: [s.version for s in taken][-1] == 3, "the third")
    poller.stopping.set()
    plane.stop()
    poller.join(15)
    assert not poller.is_alive()


def test_segments_are_delivered_once_without_their_progress(
    tmp_path: Path, plane: ControlPlane, token: Path
) -> None:
    journal = Journal(tmp_path / "usage", bytes_max=1 << 20, segment_bytes_max=1 << 20)
    journal.open()
    delivered: list[tuple[dict[tuple[str, str], int], int]] = []
    deliverer = Deliverer(
        Link(plane.url, token),
        journal,
        "gw",
        delivered=lambda tokens, count: delivered.append((tokens, count)),
        refused=lambda: None,
    )
    for i in range(1_500):
        journal.append(final_line(record(f"use_{i}")))
    journal.append(progress_line(record("use_running")), 0)
    journal.seal(b"")
    deliverer.start()
    until(
        lambda: [(tokens["tenant", "ten_a"], n) for tokens, n in delivered] == [(4_500, 1_500)],
        "all are delivered",
    )
    assert (len(plane.records), plane.deliveries, plane.duplicates) == (1_500, 2, 0)
    assert journal.sealed_count == 0
    deliverer.stopping.set()
    deliverer.join(10)
    journal.close()


@pytest.mark.parametrize("secret", [TOKEN, "wrong"])
def test_a_link_carries_the_token(plane: ControlPlane, token: Path, secret: str) -> None:
    token.write_text(secret)
    link = Link(plane.url, token)
    status, _ = link.call("GET", "/internal/gateway/snapshot?since=0&wait_seconds=1", None, 5)
    assert status == (200 if secret == TOKEN else 401)
    token.write_text(TOKEN)
    link.close()
    assert link.call("GET", "/internal/gateway/snapshot?since=0&wait_seconds=1", None, 5)[0] == 200
    link.close()


def test_nobody_there_is_an_error_of_ours(token: Path) -> None:
    nobody = ControlPlane()
    nobody.start()
    nobody.stop()
    with pytest.raises(ControlPlaneError, match="refused"):
        Link(nobody.url, token).call("GET", "/", None, 1)


@pytest.mark.parametrize("url", ["", "127.0.0.1:7070", "ftp://h", "http://h:99999"])
def test_a_wrong_address_is_said(token: Path, url: str) -> None:
    with pytest.raises(StartupError, match="--control-plane"):
        Link(url, token)


@pytest.mark.parametrize("content", ["", "  \n", "a\nb", "\u00e9"])
def test_a_token_file_must_hold_one_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StartupError, match="--token-file"):
        read_token(path)


def test_waits_double_with_jitter_up_to_a_limit() -> None:
    calm = Backoff(lambda: 1.0)
    assert [calm.next() for _ in range(8)] == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    calm.reset()
    assert calm.next() == 0.25
    eager: Any = Backoff(lambda: 0.0)
    assert eager.next() == 0.125
