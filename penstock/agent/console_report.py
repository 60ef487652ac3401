"""What machines write to their consoles, sent on: a piece of each, from where the control plane has it."""

import threading
from collections.abc import Mapping, Sequence

import structlog

from penstock.agent.link import Item, Link
from penstock.base import limits
from penstock.drivers.base import Consoles, Driver

log = structlog.get_logger(__name__)


class ConsoleReport:
    """Remembers how far each console was taken; one thread sends at a time."""

    def __init__(self, link: Link, drivers: Mapping[str, Driver]) -> None:
        self._link = link
        self._drivers = drivers
        self._after: dict[str, int] = {}
        self._sending = threading.Lock()

    def send_all(self, items: Sequence[Item]) -> None:
        """Send what is new of every machine, and forget those that are not there any more; raises what the link raises."""
        self.send(items)
        here = {item.allocation_id for item in items}
        for key in [key for key in self._after if key not in here]:
            self._after.pop(key, None)

    def send(self, items: Sequence[Item]) -> None:
        """Send what is new of some machines."""
        for item in items:
            driver = self._drivers.get(item.driver)
            if item.wanted == "absent" or not isinstance(driver, Consoles):
                continue
            key = item.allocation_id
            with self._sending:
                try:
                    begin, content = driver.console(key, self._after.get(key, 0), limits.CONSOLE_PIECE_BYTES)
                except OSError as error:
                    log.warning("console_unreadable", allocation=key, error=str(error))
                    continue
                if content:
                    self._after[key] = self._link.push_console(key, begin, content)
