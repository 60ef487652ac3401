"""Keys for consoles of machines here: asked for while somebody types, and only then.

The control plane says with a wish or a heartbeat that a session is open; from then on this asks for keys with a long poll
of its own and sends what the machine writes at once, until no session is open any more.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

import structlog

from penstock.agent.console_report import ConsoleReport
from penstock.agent.link import Item, Link
from penstock.base import limits
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.drivers.base import Driver, TakesKeys, Typed

log = structlog.get_logger(__name__)
SHOW_SECONDS = 0.04
RETRY_SECONDS = 1.0


class ConsoleTyping:
    """Two threads while sessions are open: one asks for keys, one sends what is written. None otherwise."""

    def __init__(
        self,
        link: Link,
        drivers: Mapping[str, Driver],
        consoles: ConsoleReport,
        item_of: Callable[[str], Item | None],
    ) -> None:
        self._link = link
        self._drivers = drivers
        self._consoles = consoles
        self._item_of = item_of
        self._lock = threading.Lock()
        self._works = False
        self._stop = threading.Event()
        self._taken: dict[str, int] = {}  # by session: how many bytes of it were typed here
        self._places: dict[str, str] = {}  # by session

    def begin(self) -> None:
        """Work until no session is open; nothing if it works already."""
        with self._lock:
            if self._works or self._stop.is_set():
                return
            self._works = True
        for work, name in ((self._ask, "console-keys"), (self._show, "console-shown")):
            threading.Thread(target=work, name=name, daemon=True).start()

    def stop(self) -> None:
        """End; sessions that are open are ended by the control plane when this agent is back."""
        self._stop.set()

    def _ask(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    found = self._link.pull_typed(dict(self._taken), limits.AGENT_HEARTBEAT_SECONDS)
                except UnauthenticatedError:
                    return
                except (PenstockError, OSError) as error:
                    log.warning("keys_not_asked_for", error=str(error))
                    self._stop.wait(RETRY_SECONDS)
                    continue
                self._take(found)
                if not found:
                    return
        finally:
            self._take(())
            with self._lock:
                self._works = False

    def _take(self, found: Sequence[Typed]) -> None:
        """Type what was not typed yet, and let go of what nobody types into any more."""
        for one in found:
            known = self._taken.get(one.session_id, one.begin)
            self._type(one.allocation_id, one.content[max(0, known - one.begin) :])
            self._taken[one.session_id] = max(known, one.begin + len(one.content))
            self._places[one.session_id] = one.allocation_id
        here = {one.session_id for one in found}
        for session_id in [known for known in self._taken if known not in here]:
            del self._taken[session_id]
            allocation_id = self._places.pop(session_id)
            driver = self._driver(allocation_id)
            if allocation_id not in self._places.values() and driver is not None:
                driver.hang_up(allocation_id)

    def _type(self, allocation_id: str, content: bytes) -> None:
        driver = self._driver(allocation_id)
        if driver is None or not content:
            return
        try:
            driver.type_into(allocation_id, content)
        except PenstockError as error:
            log.warning("keys_lost", allocation=allocation_id, bytes=len(content), error=error.sentence)

    def _driver(self, allocation_id: str) -> TakesKeys | None:
        item = self._item_of(allocation_id)
        driver = None if item is None else self._drivers.get(item.driver)
        return driver if isinstance(driver, TakesKeys) else None

    def _show(self) -> None:
        while self._works and not self._stop.wait(SHOW_SECONDS):
            items = [self._item_of(key) for key in set(self._places.values())]
            try:
                self._consoles.send([item for item in items if item is not None])
            except (PenstockError, OSError) as error:
                log.warning("console_not_sent", error=str(error))
                self._stop.wait(RETRY_SECONDS)
