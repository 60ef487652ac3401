"""The HTTP API in a thread of this process."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
import uvicorn
from starlette.requests import Request
from starlette.responses import RedirectResponse

from penstock.api.app import create_app
from penstock.base import limits
from penstock.base.errors import StartupError
from penstock.console.app import create_console
from penstock.console.secure import BASE

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from penstock.control_plane import ControlPlane

STOP_SECONDS = 5.0
STRAGGLERS_SECONDS = 15.0
BACKLOG = 2048
LOOPBACK = ("127.0.0.1", "::1", "localhost")

log = structlog.get_logger(__name__)


def bind(host: str, port: int, what: str, option: str) -> socket.socket:
    """Return a listening socket; StartupError says which port is taken and by which option to move."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartupError(
            f"{what} cannot listen on {host}:{port} ({error.strerror}); stop what uses that port or choose another with {option}"
        ) from error
    listener.listen(BACKLOG)
    return listener


def serve_both(control_plane: "ControlPlane", gateway_url: Callable[[], str]) -> "Starlette":
    """Return the API with the console under ``/console``; the bare address leads there."""
    app = create_app(control_plane)
    app.add_route("/", _to_console, methods=["GET"], include_in_schema=False)
    app.mount(BASE, create_console(control_plane, gateway_url))
    return app


async def _to_console(request: Request) -> RedirectResponse:
    del request
    return RedirectResponse(f"{BASE}/", status_code=307)


class ApiServer:
    """Serves the API and the console of a control plane until ``stop``."""

    def __init__(
        self,
        control_plane: "ControlPlane",
        listener: socket.socket,
        gateway_url: Callable[[], str] = lambda: "",
    ) -> None:
        self._listener = listener
        config = uvicorn.Config(
            serve_both(control_plane, gateway_url),
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=limits.CONSOLE_MESSAGE_BYTES_MAX,
            ws_ping_interval=20.0,
            ws_ping_timeout=20.0,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=int(STOP_SECONDS),
            timeout_keep_alive=75,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)

    @property
    def url(self) -> str:
        """Return the base URL."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Begin serving; the socket already listens, so a client may connect at once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests in flight and stop."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS + 2)
        left = wait_for_stragglers(STRAGGLERS_SECONDS)
        if left:
            log.warning("requests_still_running", count=left)
        self._listener.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])


def wait_for_stragglers(seconds: float) -> int:
    """Wait for handlers that go on in threads after their event loop has ended, and return how many do not end in time.

    A request that is cut off leaves its thread in the middle of a statement or a hash, in native code. An interpreter
    that ends meanwhile takes away what that code works on, and the process may die of it instead of stopping.
    """
    end = time.monotonic() + seconds
    workers = [one for one in threading.enumerate() if _of_ended_loop(one)]
    for one in workers:
        one.join(max(0.0, end - time.monotonic()))
    return sum(one.is_alive() for one in workers)


def _of_ended_loop(thread: threading.Thread) -> bool:
    """Tell whether a thread is AnyIO's, of a loop that is over; those of other loops of this process go on."""
    loop = getattr(thread, "loop", None)
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()
