"""All parts of a factory in one process tree: started in order, supervised, stopped in reverse."""

import gc
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from penstock.actions.bootstrap import FirstKeys, FirstLogin, bootstrap, first_logins, write_secret
from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.control_plane import ControlPlane
from penstock.drivers.embedded_postgres.server import EmbeddedPostgres
from penstock.drivers.pki.authority import FactoryCa
from penstock.store.migrate import migrate
from penstock.up.agents import gateway_files, open_authority, open_door
from penstock.up.child import GatewayProcess
from penstock.up.context_file import write_contexts
from penstock.up.demo import Demo, FirstToken
from penstock.up.logs import configure_logs
from penstock.up.preflight import NO_SITE, check_site, external_url, oidc_file, take_data_folder
from penstock.up.server import LOOPBACK, ApiServer, bind
from penstock.up.sites import LocalSite, Site, simulated_site

log = structlog.get_logger(__name__)
FIRST_TOKEN_SECONDS = 60.0
SUPERVISE_SECONDS = 2.0
RENEW_SECONDS = 600.0

Say = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Options:
    """How a factory is to be started."""

    data: Path
    host: str
    port: int
    gateway_port: int
    agent_port: int
    simulated: str
    database_url: str | None
    write_context: bool
    agent_host: str | None = None  # None: where the API listens


class Factory:
    """A running factory. ``phases`` has the seconds each part took to start."""

    def __init__(self, options: Options, say: Say) -> None:
        self.options = options
        self.phases: dict[str, float] = {}
        self._say = say
        self._stack = ExitStack()
        self._clock = SystemClock()
        self._keys: FirstKeys | None = None
        self._logins: tuple[FirstLogin, ...] = ()
        self._postgres: EmbeddedPostgres | None = None
        self._plane: ControlPlane | None = None
        self._api: ApiServer | None = None
        self._ca: FactoryCa | None = None
        self._gateway: GatewayProcess | None = None
        self._sites: list[Site] = []
        self._agent_url = ""
        self._renew_at = self._clock.monotonic() + RENEW_SECONDS

    def start(self) -> None:
        """Bring everything up; StartupError says what stands in the way and what to do."""
        options = self.options
        if options.host not in LOOPBACK:
            raise StartupError(
                f"--host {options.host}: the API speaks plain HTTP and so listens on loopback only; put a TLS proxy in front"
            )
        check_site(options.simulated)
        database_url = external_url(options.database_url)
        held = take_data_folder(options.data)
        self._stack.callback(os.close, held)
        configure_logs(options.data / "log" / "penstock.log")
        api_socket = self._phase("listen", lambda: bind(options.host, options.port, "the API", "--port"))
        self._stack.callback(api_socket.close)
        url = database_url or self._phase("database", self._start_database)
        self._phase("tables", lambda: migrate(url, self._say))
        plane = self._plane = ControlPlane(url, self._clock)
        self._stack.callback(plane.close)
        self._keys = self._phase("first keys", lambda: self._prepare(plane))
        self._api = ApiServer(plane, api_socket, lambda: self.gateway_url)
        self._api.start()
        self._stack.callback(self._api.stop)
        ca = self._ca = open_authority(options.data, self._clock)
        self._phase("gateway", lambda: self._start_gateway(ca))
        self._phase("nodes", lambda: self._start_sites(plane))
        self._agent_url = self._phase("agents", lambda: self._listen_for_agents(plane, ca))
        plane.start_loops(alone=options.database_url is None)
        self._phase("gateway ready", self._wait_gateway)
        self._write_run_file()
        _calm_collector()
        if options.write_context:
            write_contexts(self._keys, self.api_url, self.gateway_url)

    @property
    def api_url(self) -> str:
        """Return the base URL of the API."""
        return self._api.url if self._api else ""

    @property
    def gateway_url(self) -> str:
        """Return the base URL of the LLM gateway."""
        return self._gateway.url if self._gateway else ""

    def _phase(self, name: str, work: Callable[[], Result]) -> Result:
        self._say(f"starting: {name}")
        began = time.monotonic()
        result = work()
        self.phases[name] = round(time.monotonic() - began, 3)
        return result

    def _start_database(self) -> str:
        server = EmbeddedPostgres(self.options.data / "postgres", self._clock)
        url = server.start()
        self._stack.callback(server.stop)
        self._postgres = server
        return url

    def _prepare(self, plane: ControlPlane) -> FirstKeys:
        plane.seed()
        folder = self.options.data / "keys"
        plane.sign_with(folder / "proof-signing.pem", owner=True)
        plane.seal_with(folder / "secrets.key")
        sign_in = oidc_file(self.options.data)
        if sign_in is not None:
            plane.sign_in_through(sign_in)
        plane.keep_images_in(self.options.data / "images")
        keys = bootstrap(plane.context, folder)
        self._logins = first_logins(plane.context, folder)
        return keys

    def _start_gateway(self, ca: FactoryCa) -> None:
        assert self._plane is not None  # noqa: S101 - start() made it
        token_file = self.options.data / "keys" / "gateway.token"
        if not token_file.exists():
            write_secret(token_file, secrets.token_urlsafe(32))
        self._plane.trust_gateway(token_file.read_text().strip())
        port = self.options.gateway_port or _free_port(self.options.host)
        self._gateway = GatewayProcess(
            f"{self.options.host}:{port}",
            self.api_url,
            token_file,
            self.options.data / "gateway",
            gateway_files(ca, self.options.data),
        )
        self._gateway.start()
        self._plane.gateway_url = self._gateway.url
        self._stack.callback(self._gateway.stop)

    def _wait_gateway(self) -> None:
        assert self._gateway is not None  # noqa: S101 - start() made it
        self._gateway.wait_ready()

    def _start_sites(self, plane: ControlPlane) -> None:
        local = LocalSite(plane, self.options.data / "local")
        self._sites = [local]
        if self.options.simulated != NO_SITE:
            self._sites.append(simulated_site(plane, self.options.data / "simulated", self.options.simulated))
        for site in self._sites:
            site.start()
            self._stack.callback(site.stop)

    def _listen_for_agents(self, plane: ControlPlane, ca: FactoryCa) -> str:
        options = self.options
        door = open_door(plane, ca, options.agent_host or options.host, options.agent_port)
        self._stack.callback(door.stop)
        return door.url

    def _write_run_file(self) -> None:
        document = {
            "api_url": self.api_url,
            "gateway_url": self.gateway_url,
            "agent_url": self._agent_url,
            "phases_seconds": self.phases,
        }
        file = self.options.data / "run.json"
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(document, indent=1) + "\n")
        draft.replace(file)  # who waits for it finds it whole
        self._stack.callback(lambda: file.unlink(missing_ok=True))

    def first_token(self, on_state: Say, on_text: Say) -> FirstToken:
        """Order the demonstration endpoint as its tenant and ask it something."""
        assert self._keys is not None  # noqa: S101 - start() made them
        demo = Demo(
            self.api_url,
            self.gateway_url,
            self._keys.demo_key,
            self._keys.demo_project_id,
            FIRST_TOKEN_SECONDS,
        )
        return demo.run(on_state, on_text)

    def supervise(self, stop: threading.Event, say: Say) -> None:
        """Keep the parts alive and say how things are until ``stop`` is set."""
        assert self._plane is not None  # noqa: S101 - start() made them
        assert self._gateway is not None  # noqa: S101 - start() made them
        while not stop.is_set():
            self._keep_database(say)
            self._gateway.keep_alive()
            self._renew_certificate()
            say(self._plane.status_sentence() + "; Ctrl-C stops")
            stop.wait(SUPERVISE_SECONDS)

    def _renew_certificate(self) -> None:
        """Look now and then whether the gateway's certificate is due; the gateway takes a new one by itself."""
        assert self._ca is not None  # noqa: S101 - start() made it
        now = self._clock.monotonic()
        if now < self._renew_at:
            return
        self._renew_at = now + RENEW_SECONDS
        try:
            gateway_files(self._ca, self.options.data)
        except StartupError as error:
            log.error("gateway_certificate_not_renewed", error=error.sentence)  # noqa: TRY400 - the sentence says it

    def _keep_database(self, say: Say) -> None:
        """Start the embedded PostgreSQL again if it died; what fails is tried again in the next round."""
        server = self._postgres
        if server is None or server.is_running():
            return
        log.error("database_died")
        say("the database died: starting it again")
        try:
            server.start()
        except StartupError as error:
            log.exception("database_does_not_start", internal=error.internal)
            say(error.sentence)
        else:
            log.warning("database_started_again", seconds=server.phases_seconds.get("start"))

    def facts(self) -> list[tuple[str, str]]:
        """Return what a person wants to know first."""
        found = [
            ("console", self.api_url + "/console"),
            *((f"  log in as {login.name}", _password_hint(login)) for login in self._logins),
            ("API", self.api_url + "/v1"),
            ("LLM gateway", self.gateway_url + "/v1"),
            ("agents join at", self._agent_url),
            ("data", str(self.options.data)),
        ]
        return found + [fact for site in self._sites for fact in site.facts()]

    def next_steps(self) -> list[str]:
        """Return commands to go on with."""
        return [
            "next: penstock service list            what runs",
            "      penstock offer list              what may be ordered",
            "      penstock service order gb200 --set count=8 --wait",
        ]

    def stop(self) -> None:
        """Stop everything in reverse order; what is on the data folder is where the next start goes on."""
        if self._plane is not None:
            self._plane.wakeups.stop()  # first, because it ends the long polls that everything else waits for
        self._stack.close()


def _password_hint(login: FirstLogin) -> str:
    """Say where the password is; it is never printed itself, because terminals and their logs are kept."""
    return f"password in {login.password_file}" if login.password_file else "with the password you chose"


def _calm_collector() -> None:
    """Look for garbage cycles less often, and never again among what start-up made.

    Measured on 1,000 orders: the default thresholds spend a tenth of the control plane's time in the collector.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _free_port(host: str) -> int:
    with bind(host, 0, "the gateway", "--gateway-port") as probe:
        return int(probe.getsockname()[1])
