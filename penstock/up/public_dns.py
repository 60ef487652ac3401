"""`penstock serve dns`: answers the world for tenants' public names, from what it read last when the database is away."""

import threading
from collections.abc import Sequence

import structlog

from penstock.actions import public_record as record_actions
from penstock.base import limits
from penstock.base.clock import to_epoch_us
from penstock.base.errors import PenstockError, StartupError
from penstock.control_plane import ControlPlane
from penstock.domain.public_record import PublicName, PublicZone
from penstock.drivers.public_dns.server import PublicDns
from penstock.drivers.public_dns.zone import Zone

log = structlog.get_logger(__name__)


class ZoneReader:
    """Gives a name server what is to be served, whenever that changed."""

    def __init__(self, plane: ControlPlane, server: PublicDns) -> None:
        self._plane = plane
        self._server = server
        self._known: tuple[PublicZone | None, Sequence[PublicName]] = (None, ())
        self._lost = False

    def look(self) -> None:
        """Read once; what cannot be read is served as it was."""
        try:
            read = record_actions.served(self._plane.context)
        except PenstockError as error:
            if not self._lost:
                log.warning("public_dns_goes_on", error=error.sentence)
            self._lost = True
            return
        self._lost = False
        if read != self._known:
            named, records = read
            # The serial number grows with every change that is seen, as secondaries of a zone want it.
            serial = to_epoch_us(self._plane.clock.now()) // 1_000_000
            zone = self._server.zone = None if named is None else Zone(named, records, serial)
            self._known = read
            left_out = len(zone.left_out) if zone is not None else 0
            suffix = None if named is None else named.suffix
            log.info("public_dns_serves", suffix=suffix, records=len(records), left_out=left_out)


def serve(plane: ControlPlane, host: str, port: int, stop: threading.Event) -> None:
    """Answer until ``stop``; StartupError if the address cannot be had."""
    try:
        server = PublicDns(host, port)
    except OSError as error:
        raise StartupError(
            f"{host}:{port} cannot be taken for public names ({error.strerror}); choose another with --host and --port"
        ) from error
    with server:
        reader = ZoneReader(plane, server)
        while True:
            reader.look()
            if stop.wait(limits.PUBLIC_DNS_SECONDS):
                return
