"""Where remote agents talk to the factory: HTTPS on a port of its own, with certificates on both sides.

Only what agents need is served here, and nothing of it on the API's port. TLS verifies that a client's
certificate is of the factory's own authority; whose it is goes into the request's scope, and the agent's row
decides, at each request. Only ``/v1/agents/ca`` and ``/v1/agents/join`` are answered without one.

Handlers are asynchronous, unlike the API's: thousands of agents hold a long poll each, and none costs a thread.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import orjson
import structlog
import uvicorn
import uvloop
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.concurrency import run_in_threadpool
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock.actions import agent as agent_actions
from penstock.actions import agent_identity
from penstock.actions import certificate as certificate_actions
from penstock.actions import console_session as session_actions
from penstock.actions import flow as flow_actions
from penstock.actions import host_check as check_actions
from penstock.actions import host_log as log_actions
from penstock.actions import image as image_actions
from penstock.actions import join_token as join_token_actions
from penstock.actions import node as node_actions
from penstock.actions import reading as reading_actions
from penstock.actions import sleep as sleep_actions
from penstock.actions import vm_console as console_actions
from penstock.actions import vm_image as vm_image_actions
from penstock.actions import volume as volume_actions
from penstock.actions import weights as weights_actions
from penstock.actions.context import Context
from penstock.actions.node import Reach, SiteFacts
from penstock.api.agent_bell import AgentBell
from penstock.api.app import add_edge
from penstock.api.edge import answer
from penstock.base import limits
from penstock.base.errors import InvalidInputError, StartupError
from penstock.drivers import wire, wire_check, wire_log, wire_traffic
from penstock.drivers.pki.authority import FactoryCa
from penstock.drivers.pki.certificates import AgentIdentity, read_agent_certificate
from penstock.drivers.wire import JoinAnswer, RenewAnswer, Wish

if TYPE_CHECKING:
    from penstock.control_plane import ControlPlane

log = structlog.get_logger(__name__)
Answer = TypeVar("Answer")

PEER = "penstock_agent"  # the scope's key for the identity in the client's certificate
BACKLOG = 2048
KEY_WAITERS_MAX = 64  # agents whose machines are typed into at the same time
STOP_SECONDS = 5.0
CERTIFICATE_CHECK_SECONDS = 3_600.0
UNNAMED_HOSTS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not listened on


class AgentProtocol(HttpToolsProtocol):
    """Puts who the client's certificate names into the scope of each request on the connection."""

    identity: AgentIdentity | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - asyncio hands over this kind of transport
        """Read the certificate once; TLS has verified it, or there is none."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        try:
            self.identity = read_agent_certificate(der) if der else None
        except InvalidInputError:
            self.identity = None  # of our authority, but no agent's: the same as none

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[PEER] = self.identity


def create_agent_app(context: Context, ca: FactoryCa, bell: AgentBell) -> FastAPI:
    """Build the application that agents talk to."""
    app = FastAPI(title="Penstock agents", docs_url=None, redoc_url=None, openapi_url=None)
    handlers = _Handlers(context, ca, bell)
    app.add_api_route("/v1/agents/ca", handlers.authority, methods=["GET"])
    app.add_api_route("/v1/agents/join", handlers.join, methods=["POST"])
    app.add_api_route("/v1/agents/renew", handlers.renew, methods=["POST"])
    app.add_api_route("/v1/agents/self/enroll", handlers.enroll, methods=["POST"])
    app.add_api_route("/v1/agents/self/allocations", handlers.allocations, methods=["GET"])
    app.add_api_route("/v1/agents/self/observations", handlers.observations, methods=["POST"])
    app.add_api_route("/v1/agents/self/consoles", handlers.console, methods=["POST"])
    app.add_api_route("/v1/agents/self/keys", handlers.keys, methods=["POST"])
    app.add_api_route("/v1/agents/self/volumes/{volume_id}/key", handlers.volume_key, methods=["GET"])
    app.add_api_route("/v1/agents/self/certificates/{certificate_id}", handlers.certificate, methods=["GET"])
    app.add_api_route("/v1/agents/self/images/{image_id}", handlers.image, methods=["GET"])
    app.add_api_route("/v1/agents/self/images/{image_id}/content", handlers.take_image, methods=["PUT"])
    app.add_api_route("/v1/agents/self/power", handlers.power, methods=["POST"])
    app.add_api_route("/v1/agents/self/readings", handlers.readings, methods=["POST"])
    app.add_api_route("/v1/agents/self/checks", handlers.checks, methods=["POST"])
    app.add_api_route("/v1/agents/self/log", handlers.log, methods=["POST"])
    app.add_api_route("/v1/agents/self/traffic", handlers.traffic, methods=["POST"])
    app.add_api_route("/v1/agents/self/weights", handlers.weights, methods=["POST"])
    app.add_api_route("/v1/agents/self/weights/{sha256}", handlers.weights_listing, methods=["GET"])
    app.add_api_route("/v1/agents/self/weights/{sha256}/{name}", handlers.weights_file, methods=["GET"])
    add_edge(app)
    return app


class _Handlers:
    """The endpoints. The agent is authenticated before its body is read."""

    def __init__(self, context: Context, ca: FactoryCa, bell: AgentBell) -> None:
        self._context = context
        self._ca = ca
        self._bell = bell
        self._waiters = CapacityLimiter(KEY_WAITERS_MAX)  # they hold threads, so not those of everybody else

    async def authority(self) -> Response:
        """Show the authority; whoever asks compares its fingerprint with the one in the join token."""
        return answer(wire.ca_to_json(self._ca.ca_pem))

    async def join(self, request: Request) -> Response:
        """Redeem a join token."""
        asked = wire.join_request_from_json(await _body(request))
        joined = await run_in_threadpool(
            lambda: agent_identity.join(
                self._context,
                self._ca,
                token=asked.token,
                csr_pem=asked.csr_pem,
                name=asked.name,
                source_address=_source(request),
            )
        )
        certificate = joined.certificate
        said = JoinAnswer(joined.agent_id, certificate.pem, self._ca.ca_pem, certificate.expires_at)
        return answer(wire.join_answer_to_json(said))

    async def renew(self, request: Request) -> Response:
        """Give the agent a new certificate."""
        agent_id = await self._agent(request)
        csr_pem = wire.renew_request_from_json(await _body(request))
        signed = await run_in_threadpool(
            lambda: agent_identity.renew(self._context, self._ca, agent_id, csr_pem)
        )
        return answer(wire.renew_answer_to_json(RenewAnswer(signed.pem, signed.expires_at)))

    async def enroll(self, request: Request) -> Response:
        """Take the inventory of the agent's nodes. What comes over the network is real, or claims to be."""
        agent_id = await self._agent(request)
        found = wire.enrolment_from_json(await _body(request))
        site = SiteFacts(found.site, simulated=False)
        reach = Reach(_source(request), found.serve_host)
        ids = await run_in_threadpool(
            lambda: node_actions.enroll(self._context, agent_id, site, found.nodes, found.drivers, reach)
        )
        return answer(wire.enrolled_to_json(ids))

    async def allocations(self, request: Request) -> Response:
        """Return what is wanted of the agent, waiting for a change if asked to."""
        agent_id = await self._agent(request)
        after = _number(request, "after", (1 << 63) - 1)
        seconds = _number(request, "wait_seconds", limits.AGENT_LONG_POLL_SECONDS)
        pulled = await self._pull(agent_id, int(after), seconds)
        items = [
            Wish(row["id"], row["node"], row["driver"], row["generation"], row["wanted"], row["config"])
            for row in pulled.allocations
        ]
        told = wire.wishes_to_json(full=pulled.full, cursor=pulled.cursor, items=items, typing=pulled.typing)
        return answer(told)

    async def observations(self, request: Request) -> Response:
        """Take the agent's reports."""
        agent_id = await self._agent(request)
        said = wire.reports_from_json(await _body(request))
        await run_in_threadpool(
            lambda: agent_actions.push(self._context, agent_id, said.observations, said.silent_nodes)
        )
        return answer({})

    async def console(self, request: Request) -> Response:
        """Take a piece of a machine's console."""
        agent_id = await self._agent(request)
        allocation_id, begin, content = wire.console_from_json(await _body(request))
        after = await run_in_threadpool(
            lambda: console_actions.take(self._context, agent_id, allocation_id, begin, content)
        )
        return answer({"next": after})

    async def keys(self, request: Request) -> Response:
        """Give the keys that were typed into the agent's machines, waiting for some; see ``actions.console_session``."""
        agent_id = await self._agent(request)
        taken, seconds = wire.taken_from_json(await _body(request))
        found = await to_thread.run_sync(
            lambda: session_actions.typed(self._context, agent_id, taken, seconds), limiter=self._waiters
        )
        return answer(wire.typed_to_json(found))

    async def image(self, request: Request, image_id: str) -> Response:
        """Send an image that a machine on the agent's nodes begins with."""
        agent_id = await self._agent(request)
        file = await run_in_threadpool(lambda: image_actions.for_agent(self._context, agent_id, image_id))
        return FileResponse(file, media_type="application/octet-stream")

    async def take_image(self, request: Request, image_id: str) -> Response:
        """Take an image that was made of a machine on the agent's nodes."""
        agent_id = await self._agent(request)
        opened = vm_image_actions.take(
            self._context, agent_id, image_id, request.query_params.get("sha256", "")
        )
        taken = await run_in_threadpool(opened.__enter__)
        try:
            async for part in request.stream():
                if part:
                    await run_in_threadpool(taken.write, part)
            await run_in_threadpool(taken.finish)
        except BaseException as error:
            await run_in_threadpool(opened.__exit__, type(error), error, error.__traceback__)
            raise
        await run_in_threadpool(opened.__exit__, None, None, None)
        return answer({})

    async def power(self, request: Request) -> Response:
        """Take how an agent's nodes are powered; answer which shall be on or off and are not."""
        agent_id = await self._agent(request)
        states = wire.power_from_json(await _body(request))
        wanted = await run_in_threadpool(lambda: sleep_actions.take(self._context, agent_id, states))
        return answer(wire.power_wanted_to_json(wanted))

    async def readings(self, request: Request) -> Response:
        """Take what the devices of an agent's nodes measure."""
        agent_id = await self._agent(request)
        said = wire.readings_from_json(await _body(request))
        await run_in_threadpool(lambda: reading_actions.take(self._context, agent_id, said))
        return answer({})

    async def checks(self, request: Request) -> Response:
        """Take how well an agent's host is."""
        agent_id = await self._agent(request)
        checks, at_us = wire_check.checks_from_json(await _body(request))
        await run_in_threadpool(lambda: check_actions.take(self._context, agent_id, checks, at_us))
        return answer({})

    async def log(self, request: Request) -> Response:
        """Take what is new in the logs of an agent's host."""
        agent_id = await self._agent(request)
        lines = wire_log.lines_from_json(await _body(request))
        await run_in_threadpool(lambda: log_actions.take(self._context, agent_id, lines))
        return answer({})

    async def traffic(self, request: Request) -> Response:
        """Take what the networks on an agent's nodes carried."""
        agent_id = await self._agent(request)
        said = wire_traffic.traffic_from_json(await _body(request))
        await run_in_threadpool(lambda: flow_actions.take(self._context, agent_id, said))
        return answer({})

    async def weights(self, request: Request) -> Response:
        """Take what an agent's node has of weights; answer what it is to give up."""
        agent_id = await self._agent(request)
        copies = wire.weights_from_json(await _body(request))
        unwanted = await run_in_threadpool(lambda: weights_actions.take(self._context, agent_id, copies))
        return answer({"unwanted": unwanted})

    async def weights_listing(self, request: Request, sha256: str) -> Response:
        """List the files of weights that an engine on the agent's nodes runs from."""
        agent_id = await self._agent(request)
        found = await run_in_threadpool(lambda: weights_actions.listing(self._context, agent_id, sha256))
        return answer(found.as_json())

    async def weights_file(self, request: Request, sha256: str, name: str) -> Response:
        """Send one of those files, from any byte on (``Range``)."""
        agent_id = await self._agent(request)
        path, _ = await run_in_threadpool(lambda: weights_actions.file(self._context, agent_id, sha256, name))
        return FileResponse(path, media_type="application/octet-stream")

    async def volume_key(self, request: Request, volume_id: str) -> Response:
        """Give the key of a volume that the agent's nodes keep or use; it is for their memory only."""
        agent_id = await self._agent(request)
        key = await run_in_threadpool(
            lambda: volume_actions.key_for_agent(self._context, agent_id, volume_id)
        )
        return Response(key, media_type="text/plain", headers={"Cache-Control": "no-store"})

    async def certificate(self, request: Request, certificate_id: str) -> Response:
        """Give a certificate with its key to an agent that was told to listen with it."""
        agent_id = await self._agent(request)
        content = await run_in_threadpool(
            lambda: certificate_actions.content_for_agent(self._context, agent_id, certificate_id)
        )
        return Response(content, media_type="text/plain", headers={"Cache-Control": "no-store"})

    async def _agent(self, request: Request) -> str:
        """Return the agent of the connection's certificate; raises UnauthenticatedError."""
        peer: AgentIdentity | None = request.scope.get(PEER)
        return await run_in_threadpool(
            lambda: agent_identity.authenticate(
                self._context, peer.agent_id if peer else None, peer.expires_at if peer else None
            )
        )

    async def _pull(self, agent_id: str, after: int, seconds: float) -> agent_actions.Pulled:
        """Pull, and again when the bell rings for this agent; each look is a sign of life."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self._bell.listening(agent_id) as rung:
            while True:
                rung.clear()  # before looking, so that what happens meanwhile is heard
                pulled = await run_in_threadpool(
                    lambda: agent_actions.pull(self._context, agent_id, after, 0.0)
                )
                remaining = deadline - loop.time()
                if pulled.allocations or pulled.full or remaining <= 0 or self._bell.closed:
                    return pulled
                try:
                    await asyncio.wait_for(
                        rung.wait(), timeout=min(remaining, limits.AGENT_HEARTBEAT_SECONDS)
                    )
                except TimeoutError:
                    continue  # nobody rang: look again, and see whether the time is up


def _source(request: Request) -> str:
    return request.client.host if request.client else "unknown"


async def _body(request: Request) -> object:
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the body is not JSON: {error}", field="body") from error


def _number(request: Request, name: str, highest: float) -> float:
    """Return a query parameter from 0 to ``highest``, 0 if it is missing."""
    text = request.query_params.get(name, "0")
    whole = isinstance(highest, int)
    try:
        value = int(text) if whole else float(text)
    except ValueError as error:
        raise InvalidInputError("a number is needed", field=name) from error
    if not 0 <= value <= highest:
        raise InvalidInputError(f"a number from 0 to {highest} is needed", field=name)
    return value


class AgentListener:
    """A running listener; ``url`` is where agents join."""

    def __init__(self, context: Context, ca: FactoryCa, listener: socket.socket, host: str) -> None:
        self._ca = ca
        self._listener = listener
        self._names = () if host in UNNAMED_HOSTS else (host,)
        self._tls = self._tls_context()
        self._bell = AgentBell(context)
        self._stopping = threading.Event()
        config = uvicorn.Config(
            create_agent_app(context, ca, self._bell),
            http=AgentProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=int(STOP_SECONDS),
            timeout_keep_alive=75,
        )
        config.load()
        config.ssl = self._tls
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="agent-listener", daemon=True)
        self._renewer = threading.Thread(target=self._renew, name="agent-listener-renew", daemon=True)
        shown = socket.gethostname() if host in UNNAMED_HOSTS else host
        self.port = int(listener.getsockname()[1])
        self.url = f"https://[{shown}]:{self.port}" if ":" in shown else f"https://{shown}:{self.port}"

    def start(self) -> None:
        """Begin serving; the socket listens already."""
        self._thread.start()
        self._renewer.start()

    def stop(self) -> None:
        """Answer the polls that wait, finish the requests in flight, stop."""
        self._stopping.set()
        self._bell.close()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS + 2)
        if self._renewer.is_alive():
            self._renewer.join(STOP_SECONDS)
        self._listener.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._bell.start(runner.get_loop())
            runner.run(self._server.serve(sockets=[self._listener]))

    def _tls_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self._ca.ca_pem)
        context.verify_mode = ssl.CERT_OPTIONAL  # one that is shown must be good; join is asked without
        context.load_cert_chain(*self._ca.server_certificate(self._names))
        return context

    def _renew(self) -> None:
        """Take up a new server certificate in time; connections that stand keep the old one."""
        while not self._stopping.wait(CERTIFICATE_CHECK_SECONDS):
            try:
                self._tls.load_cert_chain(*self._ca.server_certificate(self._names))
            except (OSError, ssl.SSLError, StartupError) as error:
                log.error("listener_certificate_not_renewed", error=str(error))  # noqa: TRY400 - the sentence says it


def serve_agents(control_plane: "ControlPlane", ca: FactoryCa, host: str, port: int) -> AgentListener:
    """Listen for agents on ``host``:``port`` (0: any free port) and make join tokens lead there.

    Raises StartupError if the port is taken or the authority cannot be used.
    """
    ca.ensure()
    listener = _bind(host, port)
    handle = _opened(lambda: AgentListener(control_plane.context, ca, listener, host), listener)
    handle.start()
    join_token_actions.announce_listener(control_plane.context, url=handle.url, ca_sha256=ca.fingerprint)
    return handle


def _opened(make: Callable[[], Answer], listener: socket.socket) -> Answer:
    try:
        return make()
    except BaseException:
        listener.close()
        raise


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartupError(
            f"agents cannot be listened for on {host}:{port} ({error.strerror}); stop what uses that port or choose "
            "another with --agent-port"
        ) from error
    listener.listen(BACKLOG)
    return listener
