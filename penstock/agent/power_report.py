"""The power of this agent's nodes: told to the factory when it changes, and what the factory wants of it is done."""

from collections.abc import Iterable

import structlog

from penstock.agent.link import Link
from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.drivers.base import Driver, PowersNodes

log = structlog.get_logger(__name__)


class PowerReport:
    """Speaks for the drivers that can power nodes; a report that fails is made again later and costs nothing else."""

    def __init__(self, drivers: Iterable[Driver], clock: Clock) -> None:
        self._drivers = [driver for driver in drivers if isinstance(driver, PowersNodes)]
        self._clock = clock
        self._told: dict[str, str] = {}
        self._look_at = clock.monotonic()

    def send(self, link: Link) -> None:
        """Report and obey if it is time; raises UnauthenticatedError if the factory knows this agent no more."""
        now = self._clock.monotonic()
        if not self._drivers or now < self._look_at:
            return
        self._look_at = now + limits.POWER_REPORT_SECONDS
        try:
            states, homes = self._read()
            news = {name: state for name, state in states.items() if self._told.get(name) != state}
            some = dict(list(news.items())[: limits.POWER_REPORT_NODES_MAX])
            wanted = link.push_power(some)
            self._told.update(some)
            for name, on in wanted.items():
                if name in homes:
                    homes[name].set_power(name, on=on)
                    self._look_at = now  # what comes of it is news
        except UnauthenticatedError:
            raise
        except (PenstockError, OSError) as error:
            log.warning("power_not_reported", error=str(error))

    def _read(self) -> tuple[dict[str, str], dict[str, PowersNodes]]:
        states: dict[str, str] = {}
        homes: dict[str, PowersNodes] = {}
        for driver in self._drivers:
            for name, state in driver.power().items():
                states[name], homes[name] = state, driver
        return states, homes
