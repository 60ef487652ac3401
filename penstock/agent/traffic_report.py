"""What the networks of this agent's nodes carry: flows soon after they were seen, counters a few times a minute."""

from collections.abc import Iterable

import structlog

from penstock.agent.link import Link
from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.drivers.base import ReadsTraffic, Traffic

log = structlog.get_logger(__name__)


class TrafficReport:
    """Speaks for drivers that carry networks; what could not be told is told later and costs nothing else."""

    def __init__(self, sources: Iterable[object], clock: Clock) -> None:
        self._sources = [source for source in sources if isinstance(source, ReadsTraffic)]
        self._clock = clock
        self._look_at = self._count_at = clock.monotonic()

    def send(self, link: Link) -> None:
        """Report if it is time; raises UnauthenticatedError if the factory knows this agent no more."""
        now = self._clock.monotonic()
        if not self._sources or now < self._look_at:
            return
        self._look_at = now + limits.FLOW_REPORT_SECONDS
        counts_too = now >= self._count_at
        if counts_too:
            self._count_at = now + limits.PORT_COUNT_SECONDS
        for source in self._sources:
            try:
                self._tell(link, source, source.traffic(counts=counts_too))
            except UnauthenticatedError:
                raise
            except (PenstockError, OSError) as error:
                log.warning("traffic_not_reported", error=str(error))

    def _tell(self, link: Link, source: ReadsTraffic, said: Traffic) -> None:
        most = limits.PORT_COUNTS_PER_REPORT_MAX
        if said.flows or said.lost or said.counts:
            link.push_traffic(Traffic(said.flows, said.counts[:most], said.lost))
        for first in range(most, len(said.counts), most):
            link.push_traffic(Traffic(counts=said.counts[first : first + most]))
        source.traffic_told()
