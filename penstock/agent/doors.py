"""How what runs on this machine is reached from elsewhere: the loopback address in a report becomes the relay's.

Drivers know loopback ports only. Each report of one goes through here on its way, so that the relay leads to where
the replica listens *now*, also while no control plane hears the report, and to nowhere once it listens no more.
"""

from dataclasses import replace
from typing import Protocol
from urllib.parse import urlsplit

from penstock.drivers.base import Observed

_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


class Routes(Protocol):
    """A relay; calls may come from any thread."""

    @property
    def url(self) -> str:
        """Return the base URL that replicas are reached at."""
        ...

    def lead(self, allocation_id: str, port: int) -> None:
        """Lead connections for a replica to a loopback port from now on."""
        ...

    def close(self, allocation_id: str) -> None:
        """Refuse connections for a replica from now on."""
        ...


class Doors:
    """Opens and closes the relay's doors by what drivers report."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def shown(self, observed: Observed) -> Observed:
        """Return the report with the address that others reach the replica by."""
        port = _loopback_port(observed.endpoint)
        if port is None:
            self._routes.close(observed.allocation_id)
            return observed
        self._routes.lead(observed.allocation_id, port)
        return replace(observed, endpoint=self._routes.url)


def _loopback_port(endpoint: str | None) -> int | None:
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    return parts.port if parts.scheme == "http" and parts.hostname in _LOOPBACK else None
