"""The agent's loop: level-triggered, batched, and deaf to nothing but its own drivers.

What was wanted last stays wanted while the control plane is away. A driver's exception concerns the
allocation it was raised for and no other. Things on a backend that nobody wants are removed only after a
full, successful pull said so twice: an unreachable control plane never makes an agent remove anything.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from prometheus_client import Counter

from penstock.agent.aside import Aside
from penstock.agent.console_report import ConsoleReport
from penstock.agent.console_typing import ConsoleTyping
from penstock.agent.desired import DesiredFile
from penstock.agent.doors import Doors
from penstock.agent.host_log import HostLog, LogSource
from penstock.agent.host_report import HostReport
from penstock.agent.link import Item, Link, Pulled
from penstock.agent.power_report import PowerReport
from penstock.agent.sensor_report import SensorReport
from penstock.agent.traffic_report import TrafficReport
from penstock.agent.user_data import UserData
from penstock.agent.weights_report import WeightsReport
from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import HostHeldError, PenstockError
from penstock.drivers.base import (
    Announces,
    Driver,
    EnsuresMany,
    Observed,
    Phase,
    ReadsSensors,
    ReportsSilentNodes,
    Wanted,
    WorksAside,
)

log = structlog.get_logger(__name__)
DRIVEN = Counter("penstock_agent_drives_total", "Driver calls by outcome.", ("driver", "phase"))
ORPHANS = Counter("penstock_agent_orphans_removed_total", "Things removed from a backend that nobody wanted.")

FIRST_RECHECK_SECONDS = 0.02
RECHECK_SECONDS_MAX = 0.5
OBSERVE_SECONDS = 2.0
METERS_SECONDS = 15.0  # how old what a driver counts may become
TRIES_MAX = 5
LINK_RETRY_SECONDS_MAX = 5.0
NEWS_LOOK_SECONDS = 1.0  # how late the thread that hears of news sees the end
NEWS_JOIN_SECONDS = 30.0
SETTLED = frozenset({Phase.READY, Phase.FAILED, Phase.ABSENT})


@dataclass(slots=True)
class _Try:
    """When an unsettled allocation is driven next."""

    due: float
    wait: float = FIRST_RECHECK_SECONDS
    failures: int = 0


class Agent:
    """Drives the wishes of one control plane through ``drivers`` (by name).

    ``doors`` say how what runs here is reached from elsewhere; None: by the address that drivers report.
    ``sensors`` are read beside those of the drivers; what is new in ``logs`` is told.
    """

    def __init__(
        self,
        link: Link,
        drivers: Mapping[str, Driver],
        clock: Clock,
        desired_file: DesiredFile | None = None,
        doors: Doors | None = None,
        weights: WeightsReport | None = None,
        sensors: Sequence[ReadsSensors] = (),
        logs: Sequence[LogSource] = (),
    ) -> None:
        self._link = link
        self._drivers = drivers
        self._clock = clock
        self._file = desired_file
        self._doors = doors
        self._weights = weights
        self._power = PowerReport(drivers.values(), clock)
        self._consoles = ConsoleReport(link, drivers)
        self._sensors = SensorReport([*drivers.values(), *sensors], clock)
        self._traffic = TrafficReport(drivers.values(), clock)
        self._host = HostReport({**drivers, **{f"host{n}": one for n, one in enumerate(sensors)}}, clock)
        self._log = HostLog(logs, clock)
        self._user_data = UserData(drivers)
        self._cursor = 0
        self._heard = False
        self._desired: dict[str, Item] = {}
        self._typing = ConsoleTyping(link, drivers, self._consoles, self._desired.get)
        self._tries: dict[str, _Try] = {}
        self._told: dict[str, tuple[object, ...]] = {}
        self._unsent: dict[str, Observed] = {}
        self._suspects: dict[str, set[str]] = {}
        self._silent: tuple[str, ...] | None = None
        self._unwritten = False
        self._counted_at: dict[str, float] = {}
        self._observe_at = clock.monotonic()
        self._busy = threading.Lock()  # guards everything above, but not the wait for wishes
        self._aside = Aside(
            (
                name
                for name, driver in drivers.items()
                if isinstance(driver, WorksAside) and driver.works_aside()
            ),
            self._drive_aside,
        )
        self._news = threading.Event()
        self._announcing = {name for name, driver in drivers.items() if isinstance(driver, Announces)}
        for driver in drivers.values():
            if isinstance(driver, Announces):
                driver.announce(self._news.set)
        if desired_file is not None:
            self._take(Pulled(full=True, cursor=0, items=desired_file.read()))

    def run(self, stop: threading.Event) -> None:
        """Loop until ``stop``; what runs on the backends goes on running.

        Nothing ends the loop but ``stop``: a link that fails is tried again, and meanwhile what was wanted
        last is still driven.
        """
        hearing = threading.Thread(target=self._hear, args=(stop,), name="agent-news", daemon=True)
        if self._announcing:
            hearing.start()
        self._aside.start()
        try:
            self._go_on(stop)
        finally:
            self._news.set()
            self._aside.stop()
            self._typing.stop()
            if self._announcing:
                hearing.join(NEWS_JOIN_SECONDS)

    def _go_on(self, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                self.step(0.0 if failures else None)
                if failures:
                    log.info("agent_link_back", failures=failures)
                failures = 0
            except Exception as error:
                failures += 1
                self._heard = False
                if (
                    failures.bit_count() == 1
                ):  # the 1st, 2nd, 4th, 8th ... time: a day's outage is a few lines
                    known = isinstance(error, PenstockError | OSError)
                    log.warning("agent_link_lost", error=str(error), failures=failures, exc_info=not known)
                self._go_on_alone(stop, min(LINK_RETRY_SECONDS_MAX, 0.1 * 2 ** min(failures, 8)))

    def _go_on_alone(self, stop: threading.Event, seconds: float) -> None:
        """Drive what was wanted last for ``seconds``; what there is to report is kept for later."""
        end = self._clock.monotonic() + seconds
        while not stop.is_set():
            with self._busy:
                self._drive()
                patience = self._patience()
            left = end - self._clock.monotonic()
            if left <= 0:
                return
            stop.wait(min(left, max(FIRST_RECHECK_SECONDS, patience)))

    def step(self, wait_seconds: float | None = None) -> int:
        """Pull, drive, push once; return how many reports were pushed.

        ``wait_seconds`` bounds the wait for new wishes; None: until the next thing of our own is due. Raises
        what the link raises; what was driven is then told by a later step.
        """
        with self._busy:
            patience = self._patience() if wait_seconds is None else wait_seconds
        pulled = self._link.pull(self._cursor, patience)
        with self._busy:
            self._take(pulled)
            self._cursor = pulled.cursor
            self._heard = True
            self._drive()
            pushed = self._push()
        with self._busy:
            items = list(self._desired.values())
        self._consoles.send_all(items)
        if pulled.typing:
            self._typing.begin()
        self._power.send(self._link)
        self._sensors.send(self._link)
        self._traffic.send(self._link)
        self._host.send(self._link)
        self._log.send(self._link)
        if self._weights is not None:
            self._weights.send(self._link)
        return pushed

    def _hear(self, stop: threading.Event) -> None:
        """Report what a driver has ended at once, while the other thread waits for new wishes."""
        while not stop.is_set():
            if not self._news.wait(NEWS_LOOK_SECONDS) or stop.is_set():
                continue
            self._news.clear()
            with self._busy:
                now = self._clock.monotonic()
                for key, attempt in self._tries.items():
                    if self._desired[key].driver in self._announcing:
                        attempt.due = now
                self._drive()
                self._try_to_push()

    def _try_to_push(self) -> None:
        try:
            self._push()
        except (PenstockError, OSError) as error:
            # What was not heard stays unsent; the loop meets the same outage, says so and tells it later.
            log.debug("news_untold", error=str(error))

    def _drive(self) -> None:
        """Drive what is due and note what the drivers said; needs no control plane."""
        now = self._clock.monotonic()
        if now >= self._observe_at:
            self._observe_at = now + OBSERVE_SECONDS
            self._observe()
        due = [self._desired[key] for key, attempt in self._tries.items() if attempt.due <= now]
        by_driver: dict[tuple[str, str], list[Item]] = {}
        for item in due:
            by_driver.setdefault((item.driver, item.wanted), []).append(item)
        # Who announces the end of its work only begins here, so nobody else's work need be waited for before that.
        for driver, wanted in sorted(by_driver, key=lambda key: key[0] not in self._announcing):
            items = by_driver[driver, wanted]
            if self._aside.takes(driver):
                self._aside.begin(driver)
                continue
            for first in range(0, len(items), limits.AGENT_PULL_BATCH):
                batch = items[first : first + limits.AGENT_PULL_BATCH]
                for report in self._drive_batch(driver, batch, present=wanted == "present"):
                    self._unsent[report.allocation_id] = report

    def _drive_aside(self, name: str) -> float | None:
        """Drive what is due of one driver while others go on; return how long until more is, None if nothing is unsettled.

        A wish that is replaced meanwhile stays due as it is now; what came of the one before is told as such.
        """
        now = self._clock.monotonic()
        with self._busy:
            tries = {key: one for key, one in self._tries.items() if self._desired[key].driver == name}
            if not tries:
                self._aside.ended(name)
                return None
            due = [key for key, attempt in tries.items() if attempt.due <= now]
            first = min(attempt.due for attempt in tries.values())
        if not due:
            return first - now
        for key in due:
            with self._busy:
                item, attempt = self._desired.get(key), self._tries.get(key)
            if item is None or attempt is None:
                continue
            answer = self._drive_one(self._drivers[name], item, attempt, present=item.wanted == "present")
            with self._busy:
                if key in self._desired:
                    self._unsent[key] = self._settle(item, answer)
        with self._busy:
            if self._heard:  # else the loop tells it once the control plane is back
                self._try_to_push()
        return 0.0

    def _patience(self) -> float:
        now = self._clock.monotonic()
        ours = (
            attempt.due
            for key, attempt in self._tries.items()
            if not self._aside.works(self._desired[key].driver)
        )
        first = min(ours, default=now + limits.AGENT_LONG_POLL_SECONDS)
        return max(0.0, min(first, self._observe_at) - now)

    def _take(self, pulled: Pulled) -> None:
        """Make the wishes ours; each new or changed one is due at once."""
        changed = False
        now = self._clock.monotonic()
        if pulled.full:
            keep = {item.allocation_id for item in pulled.items}
            for key in [key for key in self._desired if key not in keep]:
                self._drop(key)
                changed = True
        for item in pulled.items:
            if self._desired.get(item.allocation_id) != item:
                self._desired[item.allocation_id] = item
                self._tries[item.allocation_id] = _Try(now)
                changed = True
        if changed:
            self._user_data.take(self._desired.values())  # before a guest begins that asks for it
        if changed or self._unwritten:
            self._remember()

    def _remember(self) -> None:
        """Write the wishes to disk; a full disk costs the memory of a restart, not what runs now."""
        if self._file is None:
            return
        try:
            self._file.write(self._desired.values())
            self._unwritten = False
        except OSError as error:
            self._unwritten = True  # tried again with the next pull
            log.warning("desired_state_unwritten", error=str(error))

    def _drop(self, key: str) -> None:
        self._desired.pop(key, None)
        self._tries.pop(key, None)
        self._told.pop(key, None)
        self._unsent.pop(key, None)
        self._counted_at.pop(key, None)

    def _drive_batch(self, driver_name: str, items: Sequence[Item], *, present: bool) -> list[Observed]:
        driver = self._drivers.get(driver_name)
        if driver is None:
            return [
                self._settle(item, _failed(item, "no_driver", f"no driver '{driver_name}' here"))
                for item in items
            ]
        if isinstance(driver, EnsuresMany) and len(items) > 1:
            try:
                answers = _ensure_many(driver, items) if present else _remove_many(driver, items)
                return [self._settle(item, answer) for item, answer in zip(items, answers, strict=True)]
            except Exception as error:  # noqa: BLE001 - one of the batch is bad: find out which, one by one
                log.warning("driver_batch_failed", driver=driver_name, error=str(error))
        return [
            self._settle(
                item, self._drive_one(driver, item, self._tries[item.allocation_id], present=present)
            )
            for item in items
        ]

    def _drive_one(self, driver: Driver, item: Item, attempt: _Try, *, present: bool) -> Observed:
        try:
            if not present:
                return driver.remove(item.allocation_id)
            return driver.ensure(Wanted(item.allocation_id, item.generation, item.config))
        except PenstockError as error:
            return _failed(item, error.code, error.sentence)
        except Exception as error:
            attempt.failures += 1
            log.exception("driver_failed", driver=item.driver, allocation=item.allocation_id)
            if attempt.failures < TRIES_MAX:
                return Observed(item.allocation_id, item.generation, Phase.PENDING)
            return _failed(
                item, "driver_failed", f"the driver failed {attempt.failures} times: {error}"[:500]
            )

    def _settle(self, item: Item, answer: Observed) -> Observed:
        """Note the answer for the wish's generation and decide when to ask again."""
        answer = self._shown(answer)
        DRIVEN.labels(item.driver, answer.phase).inc()
        told = Observed(
            item.allocation_id,
            item.generation,
            answer.phase,
            answer.at_us,
            answer.endpoint,
            answer.busy_permille,
            answer.code,
            answer.message,
            answer.detail,
        )
        attempt = self._tries.get(item.allocation_id)
        if attempt is not None and self._desired.get(item.allocation_id) is item:
            if answer.phase in SETTLED:
                del self._tries[item.allocation_id]
            else:
                # Who announces the end of its work need not be asked for it.
                wait = RECHECK_SECONDS_MAX if item.driver in self._announcing else attempt.wait
                attempt.due = self._clock.monotonic() + wait
                attempt.wait = min(attempt.wait * 2, RECHECK_SECONDS_MAX)
        return told

    def _shown(self, observed: Observed) -> Observed:
        return observed if self._doors is None else self._doors.shown(observed)

    def _push(self) -> int:
        """Report what is news; what the link did not take stays unsent."""
        silent = self._silent_nodes()
        for key in [key for key, report in self._unsent.items() if self._told.get(key) == _essence(report)]:
            del self._unsent[key]
        news = list(self._unsent.values())
        if not news and silent == (self._silent or ()):
            return 0
        for first in range(0, max(len(news), 1), limits.AGENT_PULL_BATCH):
            batch = news[first : first + limits.AGENT_PULL_BATCH]
            self._link.push(batch, silent)
            for report in batch:
                del self._unsent[report.allocation_id]
                self._note_told(report)
        self._silent = silent
        return len(news)

    def _note_told(self, report: Observed) -> None:
        item = self._desired.get(report.allocation_id)
        if item is not None and item.wanted == "absent" and report.phase is Phase.ABSENT:
            self._drop(report.allocation_id)
        else:
            self._told[report.allocation_id] = _essence(report)

    def _observe(self) -> None:
        """Look at what really is there: revive what was lost, remove what nobody wants."""
        self._user_data.serve()
        now = self._clock.monotonic()
        for name, driver in self._drivers.items():
            try:
                seen = {observed.allocation_id: self._shown(observed) for observed in driver.observe()}
            except Exception as error:  # noqa: BLE001 - a backend that cannot be read now is read again soon
                log.warning("observe_failed", driver=name, error=str(error))
                continue
            for key, item in self._desired.items():
                if item.driver != name or key in self._tries:
                    continue
                if self._differs(item, seen.get(key)):
                    self._tries[key] = _Try(now)
                elif key in seen:
                    self._note_counters(item, seen[key], now)
            self._remove_orphans(driver, [key for key in seen if key not in self._desired])

    def _note_counters(self, item: Item, seen: Observed, now: float) -> None:
        """Report what a driver counts, now and then, and at once what else it says that is not as it was."""
        if seen.detail is None or item.wanted == "absent":
            return
        changed = self._told[item.allocation_id][5] != _essence(seen)[5]
        if not changed and now < self._counted_at.get(item.allocation_id, now):
            return
        self._counted_at[item.allocation_id] = now + METERS_SECONDS
        self._told.pop(item.allocation_id, None)
        self._unsent[item.allocation_id] = replace(seen, generation=item.generation)

    def _differs(self, item: Item, observed: Observed | None) -> bool:
        told = self._told.get(item.allocation_id)
        if item.wanted == "absent" or told is None:
            return True
        if told[1] is Phase.FAILED:
            return told[3] == HostHeldError.code  # who has the host may have given it up
        return observed is None or _essence(observed)[1:3] != told[1:3]

    def _remove_orphans(self, driver: Driver, keys: Sequence[str]) -> None:
        """Remove what was unwanted at the look before as well; a wish may be on its way."""
        if not self._heard:
            self._suspects.clear()
            return
        before, self._suspects[driver.name] = self._suspects.get(driver.name, set()), set(keys)
        for key in before.intersection(keys):
            try:
                gone = self._shown(driver.remove(key)).phase is Phase.ABSENT
            except Exception as error:  # noqa: BLE001 - one bad thing never stops the others; tried again soon
                log.warning("orphan_not_removed", driver=driver.name, allocation=key, error=str(error))
                continue
            if gone:
                log.warning("orphan_removed", driver=driver.name, allocation=key)
                ORPHANS.inc()

    def _silent_nodes(self) -> tuple[str, ...]:
        silent: list[str] = []
        for driver in self._drivers.values():
            if isinstance(driver, ReportsSilentNodes):
                try:
                    silent += driver.silent_nodes()
                except Exception as error:  # noqa: BLE001 - then it says what it said last
                    log.warning("silent_nodes_failed", driver=driver.name, error=str(error))
                    return self._silent or ()
        return tuple(silent)


def _essence(observed: Observed) -> tuple[object, ...]:
    """Return what makes a report news; utilisation and counters alone do not."""
    detail = {name: one for name, one in (observed.detail or {}).items() if name != "meters"}
    return (observed.generation, observed.phase, observed.endpoint, observed.code, observed.message, detail)


def _failed(item: Item, code: str, message: str) -> Observed:
    return Observed(item.allocation_id, item.generation, Phase.FAILED, code=code, message=message)


def _ensure_many(driver: EnsuresMany, items: Sequence[Item]) -> Sequence[Observed]:
    return driver.ensure_many([Wanted(item.allocation_id, item.generation, item.config) for item in items])


def _remove_many(driver: EnsuresMany, items: Sequence[Item]) -> Sequence[Observed]:
    return driver.remove_many([item.allocation_id for item in items])
