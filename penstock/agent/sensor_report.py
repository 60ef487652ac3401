"""What the devices of this agent's nodes measure: told when it moved noticeably, and now and then so that its age is known."""

from collections.abc import Iterable

import structlog

from penstock.agent.link import Link
from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.drivers.base import Reading, ReadsSensors

log = structlog.get_logger(__name__)

NEWS_PERCENT = 2  # of the watts told last
NEWS_CELSIUS = 2  # sensors tell whole degrees: one more or less is noise
RETELL_SECONDS = 600.0


class SensorReport:
    """Speaks for what can read sensors; a report that fails is made again later and costs nothing else."""

    def __init__(self, sources: Iterable[object], clock: Clock) -> None:
        self._sources = [source for source in sources if isinstance(source, ReadsSensors)]
        self._clock = clock
        self._told: dict[tuple[str, int], tuple[Reading, float]] = {}
        self._look_at = clock.monotonic()

    def send(self, link: Link) -> None:
        """Report if it is time; raises UnauthenticatedError if the factory knows this agent no more."""
        now = self._clock.monotonic()
        if not self._sources or now < self._look_at:
            return
        self._look_at = now + limits.SENSOR_REPORT_SECONDS
        try:
            read = [one for source in self._sources for one in source.sensors()]
            news = [one for one in read if self._is_news(one, now)]
            for first in range(0, len(news), limits.SENSORS_PER_REPORT_MAX):
                some = news[first : first + limits.SENSORS_PER_REPORT_MAX]
                link.push_readings(some)
                self._told.update({(one.node, one.index): (one, now) for one in some})
        except UnauthenticatedError:
            raise
        except (PenstockError, OSError) as error:
            log.warning("sensors_not_reported", error=str(error))

    def _is_news(self, one: Reading, now: float) -> bool:
        told, at = self._told.get((one.node, one.index), (None, 0.0))
        if told is None or now - at >= RETELL_SECONDS:
            return True
        if (told.watts is None, told.celsius is None) != (one.watts is None, one.celsius is None):
            return True
        moved_watts = abs((one.watts or 0) - (told.watts or 0)) * 100
        moved_celsius = abs((one.celsius or 0) - (told.celsius or 0))
        return moved_watts > NEWS_PERCENT * (told.watts or 0) or moved_celsius >= NEWS_CELSIUS
