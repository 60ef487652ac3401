"""A remote agent: one-time token, mutual TLS, enrolment, wishes, reports, renewal, revocation."""

import hashlib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from penstock.actions import agent as agent_actions
from penstock.actions.context import Context
from penstock.agent.main import EXIT_REFUSED
from penstock.api.agent_listener import AgentListener, serve_agents
from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.control_plane import ControlPlane
from penstock.domain import join_token as token_text
from penstock.drivers import wire
from penstock.drivers.pki.authority import FactoryCa
from penstock.drivers.wire import Enrolment
from tests.support.agent_peer import Peer, join, make_request
from tests.support.infrastructure import add_allocation, add_service, change, node_facts, query
from tests.support.tenancy import Caller, Tenant
from tests.support.waiting import until


@pytest.fixture
def clock() -> SystemClock:
    """Real time: TLS looks at it."""
    return SystemClock()


@pytest.fixture
def context(control_plane: ControlPlane) -> Context:
    control_plane.seed()
    return control_plane.context


@pytest.fixture
def ca(tmp_path: Path, context: Context) -> FactoryCa:
    return FactoryCa(tmp_path / "pki", context.clock)


@pytest.fixture
def listener(control_plane: ControlPlane, ca: FactoryCa) -> Iterator[AgentListener]:
    handle = serve_agents(control_plane, ca, "127.0.0.1", 0)
    yield handle
    handle.stop()


@pytest.fixture
def token(operator: Caller, listener: AgentListener) -> str:
    return new_token(operator, listener)


@pytest.fixture
def peer(listener: AgentListener, ca: FactoryCa, token: str, tmp_path: Path) -> Peer:
    answer, joined = join(listener.url, ca.ca_pem, token, tmp_path)
    assert answer.status_code == 200, answer.text
    return joined


def new_token(operator: Caller, listener: AgentListener, life_seconds: int = 600) -> str:
    answer = operator.post("/v1/join-tokens", life_seconds=life_seconds)
    assert answer.status_code == 201, answer.text
    assert answer.json()["url"] == listener.url
    return str(answer.json()["token"])


def enrolment(*names: str, site: str = "remote") -> dict[str, Any]:
    nodes = [replace(node_facts(name, devices=1), notes=()) for name in names]
    return wire.enrolment_to_json(Enrolment(site, nodes, dict.fromkeys(names, ("ctranslate2",))))


def enroll(peer: Peer, *names: str) -> dict[str, str]:
    answer = peer.post("/v1/agents/self/enroll", enrolment(*names))
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()["nodes"]
    return found


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    return error


def agent_id(context: Context) -> str:
    (row,) = query(context, "SELECT id FROM agent WHERE transport = 'https'")
    return str(row["id"])


def test_authority_is_shown_to_everybody_and_matches_the_token(
    listener: AgentListener, ca: FactoryCa, token: str
) -> None:
    shown = Peer(listener.url, ca.ca_pem).get("/v1/agents/ca")
    assert shown.json() == {"ca_pem": ca.ca_pem}
    parsed = token_text.parse(token)
    assert parsed is not None
    assert parsed.ca_sha256 == ca.fingerprint


def test_agent_joins_enrols_pulls_and_reports(peer: Peer, context: Context) -> None:
    ids = enroll(peer, "far1")
    (node,) = query(context, "SELECT * FROM node")
    assert (node["id"], node["simulated"], node["drivers"]) == (ids["far1"], False, ["ctranslate2"])
    assert node["agent_id"] == agent_id(context)
    add_service(context, "svc_1")
    allocation = add_allocation(context, "svc_1", ids["far1"], agent_id(context))
    wishes = peer.get("/v1/agents/self/allocations", after=0).json()
    assert wishes["full"] is True
    assert wishes["items"] == [
        {
            "allocation_id": allocation,
            "node": "far1",
            "driver": "simulated",
            "generation": 1,
            "wanted": "present",
            "config": {"a": 1},
        }
    ]
    report = {
        "observations": [
            {
                "allocation_id": allocation,
                "generation": 1,
                "phase": "ready",
                "at_us": {},
                "endpoint": "http://127.0.0.1:1",
            }
        ],
        "silent_nodes": [],
    }
    assert peer.post("/v1/agents/self/observations", report).status_code == 200
    assert query(context, "SELECT phase, endpoint FROM allocation") == [
        {"phase": "ready", "endpoint": "http://127.0.0.1:1"}
    ]
    told = {"states": [{"node": "far1", "state": "waking"}, {"node": "n1", "state": "off"}]}
    assert peer.post("/v1/agents/self/power", told).json() == {"wanted": []}
    assert query(context, "SELECT name, power_state FROM node") == [{"name": "far1", "power_state": "waking"}]
    assert peer.post("/v1/agents/self/power", {"states": [{"node": "far1"}]}).status_code == 422
    audited = query(context, "SELECT action, outcome FROM audit WHERE action = 'agent.join'")
    assert audited == [{"action": "agent.join", "outcome": "done"}]


def test_poll_is_answered_when_something_changes_for_this_agent(peer: Peer, context: Context) -> None:
    ids = enroll(peer, "far1")
    add_service(context, "svc_1")
    cursor = peer.get("/v1/agents/self/allocations", after=0).json()["cursor"]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(peer.get, "/v1/agents/self/allocations", after=cursor, wait_seconds=15)
        time.sleep(0.5)
        assert not poll.done()
        allocation = add_allocation(context, "svc_1", ids["far1"], agent_id(context))
        context.wakeups.signal("allocation")
        wishes = poll.result().json()
    assert time.monotonic() - began < 4.0
    assert [item["allocation_id"] for item in wishes["items"]] == [allocation]
    assert wishes["full"] is False


def test_token_is_good_for_one_agent(
    listener: AgentListener, ca: FactoryCa, token: str, tmp_path: Path, operator: Caller, context: Context
) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: join(listener.url, ca.ca_pem, token, tmp_path)[0], range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
    refused(join(listener.url, ca.ca_pem, token, tmp_path)[0], 401, "unauthenticated")
    assert len(query(context, "SELECT id FROM agent")) == 1
    (listed,) = operator.get("/v1/join-tokens").json()["items"]
    assert (listed["state"], listed["used_by_agent_id"]) == ("used", agent_id(context))
    assert not {"token", "secret_sha256"} & set(listed)
    refused(operator.post(f"/v1/join-tokens/{listed['id']}/revoke"), 409, "conflict")


def test_bad_tokens_all_look_the_same_and_make_no_agent(
    listener: AgentListener, ca: FactoryCa, tmp_path: Path, operator: Caller, context: Context
) -> None:
    good = new_token(operator, listener)
    head, secret, authority = good.split(".")
    revoked = new_token(operator, listener)
    ended = new_token(operator, listener)
    for row in operator.get("/v1/join-tokens").json()["items"]:
        if row["id"].removeprefix("jtk_") == revoked.split(".")[0].removeprefix("pjt_"):
            assert operator.post(f"/v1/join-tokens/{row['id']}/revoke").json()["state"] == "ended"
    change(
        context,
        "UPDATE join_token SET expires_at = created_at WHERE id = :id",
        id="jtk_" + ended.split(".")[0].removeprefix("pjt_"),
    )
    bad = [
        "nonsense",
        f"{head}.{'a' * 40}.{authority}",
        f"{head}.{secret}.{'0' * 64}",
        f"pjt_{'0' * 26}.{secret}.{authority}",
        revoked,
        ended,
    ]
    errors = [
        refused(join(listener.url, ca.ca_pem, text, tmp_path)[0], 401, "unauthenticated") for text in bad
    ]
    assert len({error["message"] for error in errors}) == 1
    assert query(context, "SELECT id FROM agent") == []
    assert join(listener.url, ca.ca_pem, good, tmp_path)[0].status_code == 200


def test_bad_signing_request_leaves_the_token_unused(
    listener: AgentListener, ca: FactoryCa, token: str, tmp_path: Path
) -> None:
    stranger = Peer(listener.url, ca.ca_pem)
    answer = stranger.post("/v1/agents/join", {"token": token, "csr_pem": "not one", "name": "x"})
    assert refused(answer, 422, "invalid_input")["field"] == "csr_pem"
    assert join(listener.url, ca.ca_pem, token, tmp_path)[0].status_code == 200


SELF = (
    ("GET", "/v1/agents/self/allocations"),
    ("POST", "/v1/agents/self/observations"),
    ("POST", "/v1/agents/self/enroll"),
    ("POST", "/v1/agents/renew"),
)


def test_without_a_certificate_nothing_is_answered(listener: AgentListener, ca: FactoryCa) -> None:
    for method, path in SELF:
        refused(Peer(listener.url, ca.ca_pem).request(method, path), 401, "unauthenticated")


def test_revoked_agent_is_refused_at_once_and_its_nodes_are_lost(
    peer: Peer, operator: Caller, context: Context
) -> None:
    enroll(peer, "far1")
    (listed,) = operator.get("/v1/agents", state="active").json()["items"]
    assert (listed["transport"], listed["nodes"]) == ("https", 1)
    for _ in range(2):
        assert operator.post(f"/v1/agents/{listed['id']}/revoke").json()["state"] == "revoked"
    for method, path in SELF:
        refused(peer.request(method, path), 401, "unauthenticated")
    (node,) = query(context, "SELECT state, state_message FROM node")
    assert node["state"] == "unreachable"
    assert "revoked" in node["state_message"]
    assert operator.get(f"/v1/agents/{listed['id']}").json()["state"] == "revoked"


def test_waiting_poll_of_a_revoked_agent_ends(peer: Peer, operator: Caller, context: Context) -> None:
    enroll(peer, "far1")
    cursor = peer.get("/v1/agents/self/allocations", after=0).json()["cursor"]
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(peer.get, "/v1/agents/self/allocations", after=cursor, wait_seconds=20)
        time.sleep(0.5)
        operator.post(f"/v1/agents/{agent_id(context)}/revoke")
        refused(poll.result(timeout=10), 401, "unauthenticated")


def test_agents_inside_the_factory_are_not_revoked(operator: Caller, context: Context) -> None:
    inside = agent_actions.ensure_in_process(context, "local")
    refused(operator.post(f"/v1/agents/{inside}/revoke"), 409, "conflict")


def test_certificate_of_another_authority_is_not_let_in(
    listener: AgentListener, ca: FactoryCa, context: Context, tmp_path: Path, token: str
) -> None:
    answer, _ = join(listener.url, ca.ca_pem, token, tmp_path)
    impostor = FactoryCa(tmp_path / "other", context.clock)
    impostor.ensure()
    key, csr_pem = make_request("x")
    signed = impostor.sign_agent_csr(csr_pem, answer.json()["agent_id"], timedelta(hours=1))
    file = tmp_path / "impostor.pem"
    file.write_text(signed.pem + key)
    with pytest.raises(httpx.TransportError):
        Peer(listener.url, ca.ca_pem, file).get("/v1/agents/self/allocations")


def test_certificate_of_an_unknown_agent_is_refused(
    listener: AgentListener, ca: FactoryCa, context: Context, tmp_path: Path
) -> None:
    key, csr_pem = make_request("x")
    signed = ca.sign_agent_csr(csr_pem, context.new_id("agent"), timedelta(hours=1))
    file = tmp_path / "unknown.pem"
    file.write_text(signed.pem + key)
    refused(Peer(listener.url, ca.ca_pem, file).get("/v1/agents/self/allocations"), 401, "unauthenticated")


def test_listeners_own_certificate_is_no_agents(listener: AgentListener, ca: FactoryCa) -> None:
    certificate, _ = ca.server_certificate(("127.0.0.1",))
    with pytest.raises(httpx.TransportError):
        Peer(listener.url, ca.ca_pem, certificate).get("/v1/agents/self/allocations")


def test_renewal_gives_a_new_certificate_and_the_old_one_lasts_to_its_end(
    peer: Peer, context: Context, tmp_path: Path
) -> None:
    key, csr_pem = make_request("x")
    answer = peer.post("/v1/agents/renew", {"csr_pem": csr_pem})
    assert answer.status_code == 200, answer.text
    file = tmp_path / "renewed.pem"
    file.write_text(answer.json()["certificate_pem"] + key)
    renewed = Peer(peer.url, peer.ca_pem, file)
    assert renewed.get("/v1/agents/self/allocations").status_code == 200
    assert peer.get("/v1/agents/self/allocations").status_code == 200
    (row,) = query(context, "SELECT certificate_sha256 FROM agent")
    assert row["certificate_sha256"] == _sha256(file)
    assert (
        refused(renewed.post("/v1/agents/renew", {"csr_pem": "x"}), 422, "invalid_input")["field"]
        == "csr_pem"
    )


def _sha256(file: Path) -> str:
    der = ssl.PEM_cert_to_DER_cert(file.read_text().split("-----BEGIN PRIVATE")[0])
    return hashlib.sha256(der).hexdigest()


def test_agent_cannot_take_or_report_what_is_another_agents(
    peer: Peer, listener: AgentListener, ca: FactoryCa, operator: Caller, context: Context, tmp_path: Path
) -> None:
    ids = enroll(peer, "far1")
    add_service(context, "svc_1")
    allocation = add_allocation(context, "svc_1", ids["far1"], agent_id(context))
    _, other = join(listener.url, ca.ca_pem, new_token(operator, listener), tmp_path, "other")
    refused(other.post("/v1/agents/self/enroll", enrolment("far1")), 409, "conflict")
    assert other.get("/v1/agents/self/allocations").json()["items"] == []
    report = {"observations": [{"allocation_id": allocation, "generation": 1, "phase": "ready", "at_us": {}}]}
    other.post("/v1/agents/self/observations", {**report, "silent_nodes": ["far1"]})
    assert query(context, "SELECT phase FROM allocation") == [{"phase": "pending"}]
    assert query(context, "SELECT state FROM node") == [{"state": "ready"}]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("observations", {"observations": [], "silent_nodes": [], "colour": 1}, "colour"),
        (
            "observations",
            {"observations": [{"phase": "ready"}], "silent_nodes": []},
            "observations.0.allocation_id",
        ),
        ("observations", [], "body"),
        ("enroll", {"site": "x", "nodes": [{}]}, "nodes.0.name"),
        ("enroll", {"nodes": []}, "site"),
    ],
)
def test_bad_bodies_name_their_field(peer: Peer, path: str, body: Any, field: str) -> None:
    error = refused(peer.post(f"/v1/agents/self/{path}", body), 422, "invalid_input")
    assert error["field"] == field


def test_bad_queries_and_bodies_that_are_no_json(peer: Peer) -> None:
    for query_ in ({"after": -1}, {"after": "x"}, {"wait_seconds": "nan"}, {"wait_seconds": 1000}):
        refused(peer.get("/v1/agents/self/allocations", **query_), 422, "invalid_input")
    refused(peer.request("POST", "/v1/agents/self/enroll", content=b"{"), 422, "invalid_input")
    refused(peer.get("/v1/nodes"), 404, "not_found")


def test_apis_own_port_has_no_agent_endpoints(client: TestClient, operator: Caller) -> None:
    assert client.get("/v1/agents/ca").status_code in (401, 422)
    assert operator.post("/v1/agents/join").status_code == 405
    paths = client.get("/v1/openapi.json").json()["paths"]
    assert not [path for path in paths if "/agents/self" in path or path.endswith("/join")]


def test_tokens_are_the_operators(acme: Tenant, operator: Caller) -> None:
    refused(operator.post("/v1/join-tokens"), 503, "unavailable")
    refused(acme.admin.post("/v1/join-tokens"), 403, "forbidden")
    refused(acme.admin.get("/v1/join-tokens"), 403, "forbidden")
    refused(acme.admin.get("/v1/agents"), 403, "forbidden")
    refused(operator.post("/v1/join-tokens", life_seconds=8 * 86_400), 422, "invalid_input")


def test_port_that_is_taken_is_said(
    control_plane: ControlPlane, ca: FactoryCa, listener: AgentListener
) -> None:
    with pytest.raises(StartupError, match="--agent-port"):
        serve_agents(control_plane, ca, "127.0.0.1", listener.port)


def test_stopping_answers_the_polls_that_wait(
    control_plane: ControlPlane, ca: FactoryCa, operator: Caller, tmp_path: Path
) -> None:
    listener = serve_agents(control_plane, ca, "127.0.0.1", 0)
    _, peer = join(listener.url, ca.ca_pem, new_token(operator, listener), tmp_path)
    enroll(peer, "far1")
    cursor = peer.get("/v1/agents/self/allocations").json()["cursor"]
    with ThreadPoolExecutor(1) as pool:
        poll = pool.submit(peer.get, "/v1/agents/self/allocations", after=cursor, wait_seconds=20)
        time.sleep(0.5)
        began = time.monotonic()
        listener.stop()
        assert poll.result().json()["items"] == []
    assert time.monotonic() - began < 4


# ---- the real process --------------------------------------------------------------------------------------


class AgentProcess:
    """`penstock agent join` on this machine."""

    def __init__(self, listener: AgentListener, token: str, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "agent.log"
        token_file = folder / "token"
        token_file.write_text(token)
        command = [
            *(sys.executable, "-m", "penstock", "agent", "join", "--url", listener.url),
            *("--token-file", str(token_file), "--state-dir", str(folder / "state"), "--name", name),
        ]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def words(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)


@pytest.fixture
def launch(listener: AgentListener, tmp_path: Path) -> Iterator[Callable[[str, str], AgentProcess]]:
    started: list[AgentProcess] = []

    def start(token: str, name: str) -> AgentProcess:
        started.append(AgentProcess(listener, token, tmp_path / f"agent{len(started)}", name))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def eventually(what: str, true: Callable[[], Any], process: AgentProcess, seconds: float = 60.0) -> None:
    until(true, lambda: f"{what}: {process.words()[-2000:]}", seconds)


def test_real_agent_joins_enrols_this_machine_drives_and_is_revoked(
    launch: Callable[[str, str], AgentProcess], token: str, operator: Caller, context: Context
) -> None:
    agent = launch(token, "far-machine")
    eventually("it enrols", lambda: query(context, "SELECT id FROM node"), agent)
    (node,) = query(context, "SELECT * FROM node")
    assert (node["name"], node["simulated"], node["state"]) == ("far-machine", False, "ready")
    assert node["cpu_threads"] >= 1
    assert "ctranslate2" in node["drivers"]
    add_service(context, "svc_1")
    allocation = add_allocation(context, "svc_1", node["id"], node["agent_id"])
    change(
        context,
        "UPDATE allocation SET driver = 'ctranslate2', config = '{\"model_dir\": \"/nowhere\"}', generation = 2",
    )
    context.wakeups.signal("allocation")
    eventually(
        "it reports", lambda: query(context, "SELECT id FROM allocation WHERE phase = 'failed'"), agent
    )
    (row,) = query(context, "SELECT id, phase_generation, code FROM allocation")
    assert (row["id"], row["phase_generation"]) == (allocation, 2)
    assert row["code"]
    operator.post(f"/v1/agents/{node['agent_id']}/revoke")
    eventually("it ends", lambda: agent.process.poll() is not None, agent)
    assert agent.process.returncode == EXIT_REFUSED, agent.words()[-2000:]
    assert "revoked" in agent.words()
    assert query(context, "SELECT state FROM node") == [{"state": "unreachable"}]


def test_real_agent_with_a_used_token_is_refused_and_says_so(
    launch: Callable[[str, str], AgentProcess], token: str, context: Context
) -> None:
    first = launch(token, "one")
    eventually("the first joins", lambda: query(context, "SELECT id FROM agent"), first)
    second = launch(token, "two")
    eventually("the second ends", lambda: second.process.poll() is not None, second)
    assert second.process.returncode != 0
    assert "token" in second.words()
    assert len(query(context, "SELECT id FROM agent")) == 1
