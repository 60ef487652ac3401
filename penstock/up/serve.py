"""`penstock serve`: one part of a control plane as a process of its own, as many as wanted over one PostgreSQL.

    PENSTOCK_DATABASE_URL=postgresql://... penstock serve engine
    PENSTOCK_DATABASE_URL=postgresql://... penstock serve api --port 7170

Replicas share nothing but the database: rows are leased with fencing tokens, so engines add up, and a killed
one's work is taken over when its leases end. The gateway's part is `penstock gateway`.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import structlog
from prometheus_client import start_http_server

from penstock.base.clock import SystemClock
from penstock.base.errors import PenstockError, StartupError
from penstock.control_plane import ControlPlane
from penstock.store.migrate import migrate
from penstock.up.logs import configure_logs
from penstock.up.preflight import external_url, oidc_file
from penstock.up.public_dns import serve as serve_names
from penstock.up.server import LOOPBACK, ApiServer, bind

log = structlog.get_logger(__name__)
ENGINE_CONNECTIONS = 4
EPILOG = """\
examples:
  PENSTOCK_DATABASE_URL=postgresql://user@host/db penstock serve engine
  PENSTOCK_DATABASE_URL=postgresql://user@host/db penstock serve engine --metrics-port 9101
  PENSTOCK_DATABASE_URL=postgresql://user@host/db penstock serve api --port 7170
  PENSTOCK_DATABASE_URL=postgresql://user@host/db penstock serve dns --host 192.0.2.53
Agents of machines and simulated sites belong to `penstock up` and `penstock agent`. Logs go to standard error.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="penstock serve",
        description="Run one more replica of a part of the control plane over the PostgreSQL of PENSTOCK_DATABASE_URL.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parts = parser.add_subparsers(dest="part", required=True)
    api = parts.add_parser("api", help="the HTTP API and the console")
    api.add_argument("--host", default="127.0.0.1", help="address to listen on; only loopback without TLS")
    api.add_argument("--port", type=int, default=7170, help="port to listen on (0: any free one)")
    api.add_argument(
        "--gateway-url",
        default="http://127.0.0.1:7071",
        help="where the token gateway answers, for the console's playground",
    )
    engine = parts.add_parser("engine", help="what happens by itself: placing, starting, metering, invoices")
    engine.add_argument(
        "--metrics-port", type=int, help="serve /metrics on this port of 127.0.0.1 (default: not at all)"
    )
    names = parts.add_parser("dns", help="public names of tenants, for the world to ask by UDP and TCP")
    names.add_argument("--host", default="127.0.0.1", help="address to listen on")
    names.add_argument("--port", type=int, default=53, help="port to listen on")
    names.add_argument("--metrics-port", type=int, help="serve /metrics on this port of 127.0.0.1")
    return parser


def run(arguments: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code (0 a clean stop, 2 cannot start)."""
    chosen = build_parser().parse_args(arguments)
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    configure_logs(None)
    try:
        plane = _plane(None if chosen.part == "api" else ENGINE_CONNECTIONS)
        try:
            _serve(plane, chosen, stop)
        finally:
            plane.close()
    except PenstockError as error:
        print(f"penstock: {error.sentence}", file=sys.stderr)  # noqa: T201 - a command speaks to a person
        return 2
    return 0


def _plane(connections: int | None) -> ControlPlane:
    """Return the control plane; an engine has a number of ``connections``, the API its usual ones."""
    url = external_url(os.environ.get("PENSTOCK_DATABASE_URL") or None)
    if url is None:
        raise StartupError(
            "`penstock serve` adds replicas over one PostgreSQL: name it in PENSTOCK_DATABASE_URL, or start a whole "
            "factory with `penstock up`"
        )
    migrate(url, lambda sentence: log.info("migrating", what=sentence))
    plane = ControlPlane(url, SystemClock(), connections=connections)
    plane.seed()
    plane.gateway_url = os.environ.get("PENSTOCK_GATEWAY_URL") or None
    signing_key = os.environ.get("PENSTOCK_SIGNING_KEY_FILE")
    if signing_key:
        plane.sign_with(Path(signing_key), owner=False)
    elif connections is not None:
        log.warning(
            "deletions_wait",
            why="this process has no PENSTOCK_SIGNING_KEY_FILE, so it proves and removes nothing",
        )
    secrets_key = os.environ.get("PENSTOCK_SECRETS_KEY_FILE")
    if secrets_key:
        plane.seal_with(Path(secrets_key))
    sign_in = oidc_file(None)
    if sign_in is not None:
        plane.sign_in_through(sign_in)
    images = os.environ.get("PENSTOCK_IMAGES_FOLDER")
    if images:
        plane.keep_images_in(Path(images))
    return plane


def _serve(plane: ControlPlane, chosen: argparse.Namespace, stop: threading.Event) -> None:
    if chosen.part == "engine":
        if chosen.metrics_port is not None:
            _metrics(chosen.metrics_port)
        plane.start_loops(alone=False)
        log.info("engine_started")
        stop.wait()
        return
    if chosen.part == "dns":
        if chosen.metrics_port is not None:
            _metrics(chosen.metrics_port)
        serve_names(plane, chosen.host, chosen.port, stop)
        return
    if chosen.host not in LOOPBACK:
        raise StartupError(
            f"--host {chosen.host}: the API speaks plain HTTP and so listens on loopback only; put a TLS proxy in front"
        )
    with bind(chosen.host, chosen.port, "the API", "--port") as listener:
        plane.listen()
        server = ApiServer(plane, listener, lambda: chosen.gateway_url)
        server.start()
        log.info("api_started", url=server.url)
        stop.wait()
        plane.wakeups.stop()  # ends the long polls, which would hold the server up
        server.stop()


def _metrics(port: int) -> None:
    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise StartupError(
            f"port {port} cannot be taken for /metrics ({error.strerror}); choose another with --metrics-port"
        ) from error
