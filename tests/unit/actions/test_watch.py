"""Watching events live over a real connection: in order, resumable, scoped, bounded, cheap while idle."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from penstock.actions import watch
from penstock.actions.change import change
from penstock.actions.watch import Watchers
from penstock.cli.client import parse_events
from penstock.control_plane import ControlPlane
from penstock.store import api_key as api_key_store
from penstock.store.database import SYSTEM
from tests.support.tenancy import Caller, Tenant, make_tenant


@pytest.fixture
def tenants(control_plane: ControlPlane) -> tuple[Tenant, Tenant]:
    """Two tenants."""
    return make_tenant(control_plane, None, "acme"), make_tenant(control_plane, None, "globex")


def emit(caller: Caller, kind: str, *, project_id: str | None = None) -> None:
    with change(caller.plane.context, caller.actor(), "test", "svc_1") as made:
        made.done(kind, "svc_1", tenant_id=caller.tenant_id, project_id=project_id)


@contextmanager
def watching(url: str, key: str, **more: Any) -> Iterator[Iterator[str]]:
    headers = {"Authorization": f"Bearer {key}", **more.pop("headers", {})}
    with (
        httpx.Client(base_url=url, timeout=30, headers=headers) as client,
        client.stream("GET", "/v1/events/watch", params=more) as response,
    ):
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield response.iter_lines()


def take(lines: Iterator[str], count: int) -> list[str]:
    found: list[str] = []
    for _, document in parse_events(lines):
        found.append(document["kind"])
        if len(found) == count:
            break
    return found


def test_events_arrive_as_they_happen_and_only_ones_own(served: str, tenants: tuple[Tenant, Tenant]) -> None:
    acme, globex = tenants
    emit(acme.admin, "before")
    with watching(served, acme.member.key) as lines:
        assert next(lines) == "retry: 1000"
        emit(globex.admin, "foreign")
        emit(acme.admin, "first")
        emit(acme.admin, "second")
        assert take(lines, 2) == ["first", "second"]


def test_a_watcher_goes_on_where_it_ended(served: str, tenants: tuple[Tenant, Tenant]) -> None:
    acme, _ = tenants
    for kind in ("a.one", "b.two", "a.three"):
        emit(acme.admin, kind)
    with watching(served, acme.member.key, after=0) as lines:
        last = next(event_id for event_id, document in parse_events(lines) if document["kind"] == "b.two")
    with watching(served, acme.member.key, headers={"Last-Event-ID": last}, after=0) as lines:
        assert take(lines, 1) == ["a.three"]
    with watching(served, acme.member.key, after=0, kind="a.") as lines:
        assert take(lines, 2) == ["a.one", "a.three"]


def test_an_idle_watcher_hears_a_heartbeat_and_a_revoked_one_is_sent_away(
    served: str, tenants: tuple[Tenant, Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watchers.__init__, "__kwdefaults__", {"watchers_max": 256, "heartbeat_seconds": 0.2})
    acme, _ = tenants
    with watching(served, acme.member.key) as lines:
        assert any(line == ": heartbeat" for line in lines)
        with acme.member.plane.db.transaction(SYSTEM) as connection:
            api_key_store.revoke(connection, acme.member.key_id, acme.member.plane.clock.now())
        assert ": ended: unauthenticated" in list(lines)


def test_many_idle_watchers_share_one_thread_and_there_is_a_limit(
    served: str, tenants: tuple[Tenant, Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watchers.__init__, "__kwdefaults__", {"watchers_max": 12, "heartbeat_seconds": 15.0})
    acme, _ = tenants
    headers = {"Authorization": f"Bearer {acme.member.key}"}
    before = set(threading.enumerate())  # another test's may just be ending
    with httpx.Client(base_url=served, timeout=30, headers=headers) as client:
        opened = [
            client.send(client.build_request("GET", "/v1/events/watch"), stream=True) for _ in range(12)
        ]
        streams = [response.iter_lines() for response in opened]
        assert all(next(stream) == "retry: 1000" for stream in streams)
        listeners = [t for t in set(threading.enumerate()) - before if t.name == "event-watchers"]
        assert len(listeners) == 1
        refused = client.get("/v1/events/watch")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        emit(acme.admin, "for.all")
        assert all(take(stream, 1) == ["for.all"] for stream in streams)
        for response in opened:
            response.close()
        assert eventually_let_in(client), "who left makes room"


def eventually_let_in(client: httpx.Client) -> bool:
    """Try to watch until the server has noticed that others left."""
    for _ in range(100):
        response = client.send(client.build_request("GET", "/v1/events/watch"), stream=True)
        response.close()
        if response.status_code == 200:
            return True
        threading.Event().wait(0.1)
    return False


def test_stopping_ends_every_stream(served: str, tenants: tuple[Tenant, Tenant]) -> None:
    acme, _ = tenants
    with watching(served, acme.member.key) as lines:
        assert next(lines) == "retry: 1000"
        acme.member.plane.wakeups.stop()
        assert ": ended: unavailable" in list(lines)


@pytest.mark.parametrize(
    ("headers", "status"), [({"Last-Event-ID": "x"}, 422), ({"Last-Event-ID": "1" * 19}, 422), ({}, 401)]
)
def test_bad_requests_are_refused_before_the_stream_begins(
    served: str, tenants: tuple[Tenant, Tenant], headers: dict[str, str], status: int
) -> None:
    key = "psk_nonsense" if status == 401 else tenants[0].member.key
    answer = httpx.get(
        f"{served}/v1/events/watch", headers={"Authorization": f"Bearer {key}", **headers}, timeout=30
    )
    assert answer.status_code == status
    assert json.loads(answer.content)["error"]["code"]


def test_the_bounds_are_what_the_description_says() -> None:
    assert (watch.WATCHERS_MAX, watch.HEARTBEAT_SECONDS) == (256, 15.0)
