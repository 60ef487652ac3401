"""A control plane as agents see it: a real HTTPS server with client certificates, and lists the test looks into."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from penstock.base.clock import Clock, SystemClock
from penstock.base.errors import InvalidInputError, PenstockError, UnauthenticatedError
from penstock.base.ids import new_id
from penstock.domain import join_token
from penstock.domain.host_log import LogLine
from penstock.drivers import wire, wire_log, wire_traffic
from penstock.drivers.base import Observed, Reading, Traffic
from penstock.drivers.pki import AgentIdentity, FactoryCa, read_agent_certificate


@dataclass
class Factory:
    """What the listener knows and what it was told."""

    ca: FactoryCa
    clock: Clock
    life: timedelta = timedelta(hours=24)
    tokens: dict[str, str] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)
    enrolments: list[wire.Enrolment] = field(default_factory=list)
    wishes: list[tuple[int, wire.Wish]] = field(default_factory=list)
    observed: list[Observed] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    refuses: dict[str, PenstockError] = field(default_factory=dict)
    hang_up_after_answer: bool = False
    hang_ups_instead_of_answers: int = 0
    shown_ca_pem: str = ""
    readings: list[Reading] = field(default_factory=list[Reading])
    traffic: Traffic | None = None
    log: list[LogLine] = field(default_factory=list[LogLine])
    powered: dict[str, str] = field(default_factory=dict[str, str])
    changed: threading.Condition = field(default_factory=threading.Condition)

    def new_token(self) -> str:
        token = join_token.mint(
            new_id("join_token", self.clock.now()), self.ca.fingerprint, lambda n: b"\7" * n
        )
        self.tokens[token.token_id] = token.secret_sha256
        return token.text

    def want(self, wish: wire.Wish) -> None:
        with self.changed:
            self.wishes.append((len(self.wishes) + 2, wish))  # above the cursor of who saw none
            self.changed.notify_all()

    def phases(self, allocation_id: str) -> list[str]:
        return [one.phase.value for one in self.observed if one.allocation_id == allocation_id]

    def join(self, body: Any) -> Any:
        request = wire.join_request_from_json(body)
        token = join_token.parse(request.token)
        if token is None or self.tokens.pop(token.token_id, None) != token.secret_sha256:
            raise UnauthenticatedError("this join token is unknown, used or expired; make a new one")
        agent_id = new_id("agent", self.clock.now())
        return wire.join_answer_to_json(
            wire.JoinAnswer(*self._certify(request.csr_pem, agent_id), self.ca.ca_pem, self.expires_at)
        )

    def _certify(self, csr_pem: str, agent_id: str) -> tuple[str, str]:
        signed = self.ca.sign_agent_csr(csr_pem, agent_id, self.life)
        self.agents[agent_id], self.expires_at = signed.sha256, signed.expires_at
        return agent_id, signed.pem

    def renew(self, agent: AgentIdentity, body: Any) -> Any:
        _, pem = self._certify(wire.renew_request_from_json(body), agent.agent_id)
        return wire.renew_answer_to_json(wire.RenewAnswer(pem, self.expires_at))

    def enroll(self, body: Any) -> Any:
        self.enrolments.append(wire.enrolment_from_json(body))
        return wire.enrolled_to_json({node.name: f"nod_{node.name}" for node in self.enrolments[-1].nodes})

    def pull(self, query: dict[str, list[str]]) -> Any:
        after, wait = int(query["after"][0]), float(query["wait_seconds"][0])
        with self.changed:
            if after and after > len(self.wishes):
                self.changed.wait(wait)
            items = [wish for at, wish in self.wishes if at > after]
            if after == 0:
                items = list({wish.allocation_id: wish for wish in items}.values())
            cursor = len(self.wishes) + 1
        return wire.wishes_to_json(full=after == 0, cursor=cursor, items=items)

    def push(self, body: Any) -> Any:
        reports = wire.reports_from_json(body)
        if any(one.code == "unreadable" for one in reports.observations):
            raise InvalidInputError("not readable", field="observations")
        self.observed += reports.observations
        self.silent = list(reports.silent_nodes)
        return {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: "_Server"

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        self.server.factory.bodies.append(len(content))
        self._answer(json.loads(content))

    def _answer(self, body: Any) -> None:
        if self.server.factory.hang_ups_instead_of_answers:
            self.server.factory.hang_ups_instead_of_answers -= 1
            self.close_connection = True
            return
        status, answer = 200, None
        try:
            answer = self._route(urlsplit(self.path).path, body)
        except PenstockError as error:
            status = error.status
            answer = {
                "error": {"code": error.code, "message": error.sentence, "field": error.field, "data": {}}
            }
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.server.factory.hang_up_after_answer

    @staticmethod
    def _hear(factory: Factory, path: str, body: Any) -> Any:
        if path.endswith("/readings"):
            factory.readings = wire.readings_from_json(body)
        elif path.endswith("/traffic"):
            factory.traffic = wire_traffic.traffic_from_json(body)
        else:
            factory.log += wire_log.lines_from_json(body)
        return {}

    def _route(self, path: str, body: Any) -> Any:
        factory = self.server.factory
        factory.requests.append(f"{self.command} {path}")
        if path in factory.refuses:
            raise factory.refuses[path]
        if path == "/v1/agents/ca":
            return wire.ca_to_json(factory.shown_ca_pem or factory.ca.ca_pem)
        if path == "/v1/agents/join":
            return factory.join(body)
        agent = self._agent()
        if path == "/v1/agents/renew":
            return factory.renew(agent, body)
        if path == "/v1/agents/self/enroll":
            return factory.enroll(body)
        if path == "/v1/agents/self/allocations":
            return factory.pull(parse_qs(urlsplit(self.path).query))
        if path in {f"/v1/agents/self/{said}" for said in ("readings", "traffic", "log")}:
            return self._hear(factory, path, body)
        if path == "/v1/agents/self/power":
            factory.powered = wire.power_from_json(body)
            return wire.power_wanted_to_json({"node-7": False})
        assert path == "/v1/agents/self/observations"
        return factory.push(body)

    def _agent(self) -> AgentIdentity:
        assert isinstance(self.connection, ssl.SSLSocket)
        der = self.connection.getpeercert(binary_form=True)
        if not der:
            raise UnauthenticatedError("show the certificate of an agent")
        agent = read_agent_certificate(der)
        if self.server.factory.agents.get(agent.agent_id) != agent.sha256:
            raise UnauthenticatedError("this agent is unknown or was revoked")
        return agent

    def log_message(self, *arguments: object) -> None:
        """Say nothing: the test looks into the lists."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    factory: Factory

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handshake that was refused is what a test asked for."""


@contextmanager
def listening(
    folder: Path, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
) -> Iterator[tuple[Factory, str]]:
    """Yield a factory and the address of its listener on the loopback."""
    clock = SystemClock()
    ca = FactoryCa(folder, clock)
    ca.ensure()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*ca.server_certificate(hosts))
    context.load_verify_locations(cadata=ca.ca_pem)
    context.verify_mode = ssl.CERT_OPTIONAL  # who joins has none yet; every other path demands one
    server = _Server(("127.0.0.1", 0), _Handler)
    server.factory = Factory(ca, clock)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.factory, f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
