"""Typing into consoles over a web socket: keys arrive once, what is written is shown, and who may not does not get in."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from penstock.actions import console_session as sessions
from penstock.actions import vm_console as console_actions
from penstock.actions.console_carry import Carrier
from penstock.api.app import create_app
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.role import GRANTS, Role
from penstock.drivers.base import Phase, Typed
from tests.fixtures.console import People
from tests.support.infrastructure import query
from tests.support.machine_host import Host
from tests.support.machine_objects import made, make_vm
from tests.support.tenancy import Caller, Tenant, make_caller
from tests.support.waiting import until


class Machine:
    """A running machine whose host is the test: it takes keys and writes to the console."""

    def __init__(self, plane: ControlPlane, client: TestClient, tenant: Tenant, host: Host) -> None:
        self.plane, self.client, self.tenant, self.host = plane, client, tenant, host
        self.id = make_vm(plane, tenant, "web-1")
        host.say()
        self.taken: dict[str, int] = {}
        (self.allocation_id,) = (row["id"] for row in host.wishes())

    @property
    def path(self) -> str:
        return f"/v1/vms/{self.id}/console/session"

    def open(self, caller: Caller, **headers: str) -> Any:
        allowed = {"Authorization": f"Bearer {caller.key}", **headers}
        return self.client.websocket_connect(self.path, headers=allowed)

    def refused(self, caller: Caller, **headers: str) -> tuple[int, str]:
        with pytest.raises(WebSocketDenialResponse) as caught, self.open(caller, **headers):
            pass
        assert isinstance(caught.value, WebSocketDenialResponse)
        return caught.value.status_code, caught.value.json()["error"]["message"]

    def ask(self, wait_seconds: float = 0.0) -> list[Typed]:
        """Ask for keys as the host's agent does."""
        found = sessions.typed(self.plane.context, self.host.agent_id, self.taken, wait_seconds)
        self.taken = {one.session_id: one.begin + len(one.content) for one in found}
        return found

    def wait_until_closed(self) -> None:
        """Wait until the sessions whose sockets are gone are closed."""
        still = "SELECT id FROM console_session WHERE closed_at IS NULL"
        until(lambda: query(self.plane.context, still) == [], "sessions are closed")

    def write(self, begin: int, content: bytes) -> None:
        console_actions.take(self.plane.context, self.host.agent_id, self.allocation_id, begin, content)


@pytest.fixture
def machine(control_plane: ControlPlane, client: TestClient, acme: Tenant) -> Machine:
    return Machine(control_plane, client, acme, Host(control_plane))


def _notice(socket: Any) -> str:
    return str(json.loads(socket.receive_text())["notice"])


def _typed(machine: Machine) -> bytes:
    """Return the keys that come next, waiting for them as an agent does."""
    for _ in range(100):
        content = b"".join(one.content for one in machine.ask(0.2))
        if content:
            return content
    raise AssertionError("nothing was typed")


def test_a_line_is_typed_and_answered(machine: Machine) -> None:
    context = machine.plane.context
    machine.write(0, b"web-1 login: ")
    with machine.open(machine.tenant.member) as socket:
        assert socket.receive_bytes() == b"web-1 login: ", "where the machine stands"
        assert [one.allocation_id for one in machine.ask()] == [machine.allocation_id]
        assert _notice(socket) == "attached"
        socket.send_bytes(b"secret-of-root\r")
        assert _typed(machine) == b"secret-of-root\r"
        assert [one.content for one in machine.ask()] == [b""], "keys come once"
        machine.write(13, b"\r\nPassword: ")
        assert socket.receive_bytes() == b"\r\nPassword: "
        socket.send_text("x")
        assert _typed(machine) == b"x", "a text is keys, too"
    sql = "SELECT action, detail FROM audit WHERE action LIKE 'vm.console%' ORDER BY at, id"
    until(lambda: len(query(context, sql)) == 2, "its end is in the audit trail")
    audits = query(context, sql)
    assert [row["action"] for row in audits] == ["vm.console_open", "vm.console_close"]
    closed = audits[1]["detail"]
    assert (closed["reason"], closed["typed_bytes"], closed["shown_bytes"]) == ("left", 16, 25)
    (row,) = query(context, "SELECT * FROM console_session")
    assert (bytes(row["typed"]), row["reason"], row["principal_id"]) == (
        b"",
        "left",
        machine.tenant.member.principal_id,
    )
    everything = str(query(context, "SELECT * FROM audit")) + str(query(context, "SELECT * FROM event"))
    assert "secret-of-root" not in everything
    assert machine.ask() == []


class _Leaves:
    """A socket of somebody who types a line and goes at once."""

    def __init__(self) -> None:
        self.keys = [b"exit\r"]

    async def receive(self) -> bytes | None:
        return self.keys.pop(0) if self.keys else None

    async def send(self, content: bytes) -> None:
        del content

    async def say(self, notice: str, sentence: str) -> None:
        del notice, sentence


@pytest.mark.parametrize("host_answers", [True, False])
def test_keys_typed_just_before_leaving_arrive(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *, host_answers: bool
) -> None:
    context, actor = machine.plane.context, machine.tenant.member.actor()
    monkeypatch.setattr(limits, "CONSOLE_FLUSH_LOOKS", 600 if host_answers else 2)
    session = sessions.open_session(context, actor, machine.id)
    with ThreadPoolExecutor(1) as pool:
        carried = pool.submit(
            lambda: asyncio.run(Carrier(carried=1).carry(context, actor, session, _Leaves(), lambda: actor))
        )
        if host_answers:
            assert _typed(machine) == b"exit\r"
            until(lambda: machine.ask() == [], "the session is closed once they are typed")
        assert carried.result(30) == "left", "a host that is silent holds up nobody for long"
    (row,) = query(context, "SELECT reason, typed, typed_bytes FROM console_session")
    assert (row["reason"], bytes(row["typed"]), row["typed_bytes"]) == ("left", b"", 5)


def test_who_may_not_type_does_not_get_in(
    machine: Machine, globex: Tenant, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = machine.tenant.member
    assert machine.refused(machine.tenant.auditor)[0] == 403
    assert machine.refused(globex.member)[0] == 404
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect(machine.path):
        pass
    assert isinstance(caught.value, WebSocketDenialResponse)
    assert caught.value.status_code == 401
    status, sentence = machine.refused(member, Origin="https://evil.example")
    assert (status, "another origin" in sentence) == (403, True)
    with machine.open(member, Origin="http://testserver"):
        pass
    refused = query(machine.plane.context, "SELECT outcome FROM audit WHERE action = 'vm.console_open'")
    assert "refused:forbidden" in {row["outcome"] for row in refused}
    reads = make_caller(
        machine.plane, client, "reader", Role.MEMBER, tenant_id=machine.tenant.id, scopes=("read",)
    )
    assert machine.refused(reads)[0] == 403
    viewer = make_caller(machine.plane, client, "viewer", Role.VIEWER, tenant_id=machine.tenant.id)
    assert viewer.get(f"/v1/vms/{machine.id}/console").status_code == 200
    status, sentence = machine.refused(viewer)
    assert (status, "vm_console:write" in sentence) == (403, True)
    assert viewer.post(f"/v1/vms/{machine.id}/power", action="stop").status_code == 403
    monkeypatch.setitem(
        GRANTS, Role.MEMBER, tuple(one for one in GRANTS[Role.MEMBER] if one != "vm_console:write")
    )
    assert member.get(f"/v1/vms/{machine.id}/console").status_code == 200, "reading is a right of its own"
    assert "vm_console:write" in machine.refused(member)[1]


def test_a_console_is_open_to_few_and_only_while_its_machine_runs(machine: Machine) -> None:
    member = machine.tenant.member
    with machine.open(member), machine.open(member):
        status, sentence = machine.refused(member)
        assert (status, "2 sessions are open" in sentence) == (409, True)
    machine.wait_until_closed()
    made(member.post(f"/v1/vms/{machine.id}/power", action="stop"))
    machine.host.say("off")
    status, sentence = machine.refused(member)
    assert (status, "stopped" in sentence) == (409, True)


def test_sessions_end_for_reasons_that_are_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    member = machine.tenant.member
    with machine.open(member) as socket:
        socket.send_bytes(b"x" * (limits.CONSOLE_MESSAGE_BYTES_MAX + 1))
        assert _notice(socket) == "too_much"
    with machine.open(member) as socket:
        machine.ask()
        assert _notice(socket) == "attached"
        machine.taken = {}  # the agent was started anew and knows of nothing
        assert machine.ask() == []
        assert _notice(socket) == "closed"
    with machine.open(member) as socket:
        clock.advance(limits.CONSOLE_LOST_AFTER + timedelta(seconds=1))
        assert _notice(socket) == "host_silent"
    monkeypatch.setattr(limits, "CONSOLE_ALLOWED_SECONDS", -1.0)
    with machine.open(member) as socket:
        machine.ask()
        assert _notice(socket) == "attached"
        assert machine.tenant.admin.delete(f"/v1/api-keys/{member.key_id}").status_code < 300
        assert _notice(socket) == "not_allowed"
    monkeypatch.setattr(limits, "CONSOLE_IDLE", timedelta(seconds=-1))
    with machine.open(machine.tenant.admin) as socket:
        assert _notice(socket) in ("idle", "not_allowed")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()


def test_keys_that_nobody_takes_are_bounded(machine: Machine) -> None:
    context = machine.plane.context
    session = sessions.open_session(context, machine.tenant.member.actor(), machine.id)
    piece = b"k" * limits.CONSOLE_MESSAGE_BYTES_MAX
    for _ in range(limits.CONSOLE_TYPED_WAITING_BYTES_MAX // limits.CONSOLE_MESSAGE_BYTES_MAX):
        sessions.type_into(context, session, piece)
    with pytest.raises(Exception, match="does not take what is typed"):
        sessions.type_into(context, session, b"x")
    (found,) = machine.ask()
    assert len(found.content) == limits.CONSOLE_TYPED_WAITING_BYTES_MAX
    machine.ask()  # says that they were typed
    sessions.type_into(context, session, b"x")
    assert [one.content for one in machine.ask()] == [b"x"]


def test_a_session_whose_process_died_is_closed_and_said_to_be(machine: Machine, clock: ManualClock) -> None:
    context = machine.plane.context
    session = sessions.open_session(context, machine.tenant.member.actor(), machine.id)
    assert machine.plane.vms.end_lost() == 0
    clock.advance(limits.CONSOLE_LOST_AFTER + timedelta(seconds=1))
    assert machine.plane.vms.end_lost() == 1
    assert machine.plane.vms.end_lost() == 0
    (event,) = query(context, "SELECT subject_id, data FROM event WHERE kind = 'vm.console_lost'")
    assert (event["subject_id"], event["data"]["session"]) == (machine.id, session.id)
    assert sessions.look(context, session, 0).ended == "closed"
    clock.advance(limits.CONSOLE_KEPT + timedelta(days=1))
    assert machine.plane.vms.forget_old() == 1


def test_only_pages_of_the_console_open_its_socket(people: People) -> None:
    host = Host(people.plane)
    with TestClient(create_app(people.plane)) as client:
        member = people.acme.member
        acme = Tenant(people.acme.id, people.acme.project_id, member, _with(member, client), member)
        vm_id = make_vm(people.plane, acme, "web-1")
        host.say()
        host.say(phase=Phase.READY)
    browser, path = people.member.client, f"/console/machines/{vm_id}/console/session"
    page = people.member.get(f"/machines/{vm_id}/console").text
    assert f'data-to="{path}"' in page
    assert f'data-to="{path}"' not in people.auditor.get(f"/machines/{vm_id}").text
    for headers in ({}, {"Origin": "https://evil.example"}):
        with (
            pytest.raises(WebSocketDenialResponse) as caught,
            browser.websocket_connect(path, headers=headers),
        ):
            pass
        assert isinstance(caught.value, WebSocketDenialResponse)
        assert caught.value.status_code == 403
    own = {"Origin": str(browser.base_url).rstrip("/")}
    with browser.websocket_connect(path, headers=own) as socket:
        taken = sessions.typed(people.plane.context, host.agent_id, {}, 0)
        assert len(taken) == 1
        assert _notice(socket) == "attached"
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        people.stranger.client.websocket_connect(path, headers=own),
    ):
        pass
    assert isinstance(caught.value, WebSocketDenialResponse)
    assert caught.value.status_code == 404


def _with(caller: Caller, client: TestClient) -> Caller:
    return Caller(
        caller.plane, client, caller.principal_id, caller.name, caller.tenant_id, caller.key_id, caller.key
    )
