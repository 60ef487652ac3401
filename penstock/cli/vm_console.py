"""`penstock vm console --interactive`: this terminal as the machine's serial console, over a web socket.

Imported at first use only: most commands need no web socket.
"""

import contextlib
import json
import os
import select
import sys
import threading
from collections.abc import Generator, Mapping

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from penstock import __version__
from penstock.cli.client import refused
from penstock.cli.context import Target
from penstock.cli.errors import REFUSED, UNREACHABLE, CliError

ESCAPE = b"\x1d"  # Ctrl-], as telnet and virsh have it
_PIECE = 1_024
_ANSWER_BYTES_MAX = 1 << 20
_QUIET_SECONDS = 2.0  # without a terminal: so long after the last word of the machine it is over
_OPEN_SECONDS = 30.0


def run(target: Target, vm_id: str, name: str) -> None:
    """Carry keys and what is shown until Ctrl-] is typed, standard input has ended, or the session is over."""
    with _connected(target, vm_id) as socket:
        _Terminal(socket, name).run(sys.stdin.fileno())


@contextlib.contextmanager
def _connected(target: Target, vm_id: str) -> Generator[ClientConnection]:
    scheme, _, rest = target.url.partition("://")
    address = f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}/v1/vms/{vm_id}/console/session"
    headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    try:
        opened = connect(
            address,
            additional_headers=headers,
            user_agent_header=f"penstock-cli/{__version__}",
            open_timeout=_OPEN_SECONDS,
            max_size=_ANSWER_BYTES_MAX,
            compression=None,
        )
    except InvalidStatus as error:
        raise refused(error.response.status_code, bytes(error.response.body or b"")) from error
    except (OSError, InvalidHandshake) as error:
        raise CliError(f"the console at {target.url} cannot be opened: {error}", UNREACHABLE) from error
    with opened:
        yield opened


class _Terminal:
    def __init__(self, socket: ClientConnection, name: str) -> None:
        self._socket = socket
        self._name = name
        self._heard = threading.Event()
        self._over: str | None = None

    def run(self, keys: int) -> None:
        """Read keys from this file until the end."""
        listener = threading.Thread(target=self._listen, name="console", daemon=True)
        with _raw(keys):
            listener.start()
            self._type(keys)
            self._socket.close()
            listener.join()
        if self._over is not None:
            raise CliError(f"the session at {self._name} is over: {self._over}", REFUSED)

    def _type(self, keys: int) -> None:
        while self._over is None:
            if not select.select([keys], [], [], 0.2)[0]:
                continue
            content = os.read(keys, _PIECE)
            before, escape, _ = content.partition(ESCAPE)
            try:
                if before:
                    self._socket.send(before)
            except ConnectionClosed:
                return
            if escape:
                return
            if not content:
                self._wait_for_quiet()
                return

    def _wait_for_quiet(self) -> None:
        while self._heard.wait(_QUIET_SECONDS) and self._over is None:
            self._heard.clear()

    def _listen(self) -> None:
        try:
            for message in self._socket:
                if isinstance(message, bytes):
                    self._heard.set()
                    os.write(sys.stdout.fileno(), message)
                else:
                    self._notice(json.loads(message))
        except ConnectionClosed as error:
            self._over = self._over or str(error)

    def _notice(self, said: Mapping[str, str]) -> None:
        if said["notice"] == "attached":
            sys.stderr.write(f"connected to {self._name}; Ctrl-] leaves\r\n")
            sys.stderr.flush()
        else:
            self._over = said["sentence"]


@contextlib.contextmanager
def _raw(keys: int) -> Generator[None]:
    """Let every key through as it is while this lasts, if the file is a terminal."""
    if not os.isatty(keys):
        yield
        return
    import termios  # noqa: PLC0415 - not on every system, and only needed with a terminal
    import tty  # noqa: PLC0415 - as above

    before = termios.tcgetattr(keys)
    try:
        tty.setraw(keys)
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
