"""Keys for serial consoles: one stream of libvirt for each machine that is typed into.

What the machine answers is in its log (``console.py``), so what the stream brings is read and dropped. A stream takes the
console from whoever held it before: an agent that was killed may have left one.
"""

import threading
from typing import Any

import structlog

from penstock.base.errors import ConflictError, PenstockError
from penstock.drivers.libvirt.hypervisor import Hypervisor

log = structlog.get_logger(__name__)
_PIECE = 64 << 10


class Keys:
    """Types over a connection of its own, so that no machine that starts is in the way."""

    def __init__(self, uri: str) -> None:
        self._hypervisor = Hypervisor(uri)
        self._streams: dict[str, Any] = {}
        self._lock = threading.Lock()

    def send(self, name: str, content: bytes) -> None:
        """Type; ConflictError if the machine is not on, UnavailableError if libvirt does not answer."""
        with self._hypervisor.speaking() as connection:
            with self._lock:
                stream = self._streams.get(name) or self._open(connection, name)
            sent = 0
            while sent < len(content):
                sent += stream.send(content[sent:])

    def hang_up(self, name: str) -> None:
        """Let go of a console; nothing if it is not held."""
        with self._lock:
            stream = self._streams.pop(name, None)
        if stream is None:
            return
        try:
            with self._hypervisor.speaking():
                stream.abort()
        except PenstockError as error:
            log.debug("console_already_gone", domain=name, error=error.sentence)

    def close(self) -> None:
        """Let go of everything."""
        for name in list(self._streams):
            self.hang_up(name)
        self._hypervisor.close()

    def _open(self, connection: Any, name: str) -> Any:
        domain = self._hypervisor.domain(connection, name)
        if domain is None or not domain.isActive():
            raise ConflictError("this machine is not on")
        stream = connection.newStream(0)
        domain.openConsole(None, stream, self._hypervisor.api.VIR_DOMAIN_CONSOLE_FORCE)
        self._streams[name] = stream
        threading.Thread(target=self._drain, args=(name, stream), name="console-drain", daemon=True).start()
        return stream

    def _drain(self, name: str, stream: Any) -> None:
        """Read until the console ends: with its machine, by a rival, or because it is let go."""
        api = self._hypervisor.api
        try:
            while stream.recv(_PIECE):
                pass
        except api.libvirtError as error:
            log.debug("console_ended", domain=name, error=str(error))
        with self._lock:
            if self._streams.get(name) is stream:
                del self._streams[name]
