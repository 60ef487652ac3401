"""The libvirtd of this node, with its errors turned into ours.

A libvirtd that went away is opened again at the next call; until it is back every call is an UnavailableError, which
says nothing about the machines: they go on running without it.
"""

import contextlib
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Generator, Mapping
from typing import Any

from penstock.base.errors import PenstockError, UnavailableError
from penstock.drivers.libvirt import binding

_GONE_WORDS = (
    "client socket is closed",
    "end of file while reading",
    "cannot recv data",
    "connection reset",
    "broken pipe",
)


class HypervisorError(PenstockError):
    """libvirt refused what it was asked; the sentence is its own."""

    code = "hypervisor_refused"
    status = 500


class Hypervisor:
    """One connection to ``uri``, shared by the driver's threads."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        self._connection: Any = None
        self._libvirt: Any = None

    @property
    def api(self) -> Any:
        """Return the module ``libvirt``; UnavailableError if it is not installed."""
        if self._libvirt is None:
            self._libvirt = binding.load()
        return self._libvirt

    def close(self) -> None:
        """Close the connection; machines go on."""
        with self._lock:
            self._drop()

    @contextlib.contextmanager
    def speaking(self) -> Generator[Any]:
        """Yield the open connection. libvirt's errors become UnavailableError or HypervisorError."""
        api = self.api
        try:
            yield self._open(api)
        except api.libvirtError as error:
            raise self._ours(api, error) from error

    def domain(self, connection: Any, name: str) -> Any | None:
        """Return the domain of that name, None if there is none; within ``speaking``."""
        return self._unless_gone(lambda: connection.lookupByName(name))

    def files(self, connection: Any, name: str) -> list[str]:
        """Return the paths of a domain's files (disks, seed, console's log); none if there is no such domain; within ``speaking``."""
        said = self._unless_gone(lambda: connection.lookupByName(name).XMLDesc())
        if said is None:
            return []
        elements = ET.fromstring(said).iter()  # noqa: S314 - libvirt's own words
        return [file for one in elements if (file := one.get("file")) is not None]

    def _unless_gone(self, ask: Callable[[], Any]) -> Any | None:
        api = self.api
        try:
            return ask()
        except api.libvirtError as error:
            if error.get_error_code() == api.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def is_active(self, domain: Any) -> bool:
        """Tell whether QEMU runs for a domain."""
        return bool(domain.isActive())

    def stats(self, connection: Any) -> dict[str, Mapping[str, Any]]:
        """Return what libvirt counts of every domain but its disks, by name; of one that is being started or moved only what is at hand."""
        api = self.api
        return self._stats(
            connection,
            api.VIR_DOMAIN_STATS_STATE
            | api.VIR_DOMAIN_STATS_CPU_TOTAL
            | api.VIR_DOMAIN_STATS_BALLOON
            | api.VIR_DOMAIN_STATS_INTERFACE,
        )

    def disk_stats(self, connection: Any) -> dict[str, Mapping[str, Any]]:
        """Return what libvirt counts of every domain's disks; waits for storage that is silent."""
        return self._stats(connection, self.api.VIR_DOMAIN_STATS_BLOCK)

    def _stats(self, connection: Any, groups: int) -> dict[str, Mapping[str, Any]]:
        # Without this flag one guest that starts slowly keeps everybody waiting, and the agent from all its other work.
        flags = self.api.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        return {domain.name(): found for domain, found in connection.getAllDomainStats(groups, flags)}

    def _open(self, api: Any) -> Any:
        with self._lock:
            if self._connection is not None and not self._alive(api):
                self._drop()
            if self._connection is None:
                self._connection = api.open(self.uri)
            return self._connection

    def _alive(self, api: Any) -> bool:
        try:
            return bool(self._connection.isAlive())
        except api.libvirtError:
            return False

    def _drop(self) -> None:
        if self._connection is not None:
            api = self.api
            with contextlib.suppress(api.libvirtError):  # it is gone already
                self._connection.close()
            self._connection = None

    def _ours(self, api: Any, error: Any) -> PenstockError:
        said = str(error.get_error_message() or error)
        lost = error.get_error_domain() in (api.VIR_FROM_RPC, api.VIR_FROM_REMOTE) or any(
            words in said.lower() for words in _GONE_WORDS
        )
        if lost or error.get_error_code() in (api.VIR_ERR_NO_CONNECT, api.VIR_ERR_INVALID_CONN):
            with self._lock:
                self._drop()
            return UnavailableError(f"libvirt ({self.uri}) does not answer: {said[:200]}")
        return HypervisorError(f"libvirt refused: {said[:300]}")
