"""What is new in the logs of this agent's host, its own among them, told a few times a minute."""

import threading
from collections import deque
from collections.abc import Mapping, MutableMapping, Sequence
from itertools import islice
from typing import Any, Protocol
from uuid import uuid4

import structlog

from penstock.agent.link import Link
from penstock.base import limits
from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.domain.host_log import LEVELS, LogLine, plain

log = structlog.get_logger(__name__)
_LEVELS = {**{level: level for level in LEVELS}, "critical": "error", "exception": "error", "warn": "warning"}


class LogSource(Protocol):
    """A log that can be read from any of its lines on. Reading does not raise: what cannot be read is logged."""

    @property
    def name(self) -> str:
        """Return one of ``domain.host_log.SOURCES``."""
        ...

    def read(self, after: LogLine | None, bytes_max: int) -> Sequence[LogLine]:
        """Return the lines that follow ``after`` (None: the newest), oldest first, of about ``bytes_max`` bytes."""
        ...


class Ring:
    """The newest lines of this agent's own log; a processor of structlog that changes nothing."""

    name = "agent"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._run = uuid4().hex
        self._number = 0
        self._lines: deque[LogLine] = deque(maxlen=limits.HOST_LOG_RING_LINES)
        self._changing = threading.Lock()  # lines come from every thread

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Remember a line."""
        del logger
        level, text, at_us = (
            _LEVELS.get(method, "info"),
            plain(_written(event)),
            to_epoch_us(self._clock.now()),
        )
        with self._changing:
            self._number += 1
            self._lines.append(LogLine(self.name, self._run, self._number, at_us, level, text))
        return event

    def read(self, after: LogLine | None, bytes_max: int) -> Sequence[LogLine]:
        """Return what follows; what was pushed out meanwhile is lost."""
        known = 0 if after is None else after.number
        found: list[LogLine] = []
        with self._changing:
            for line in self._lines:
                if line.number <= known:
                    continue
                bytes_max -= len(line.text.encode("utf-8", "replace"))
                if bytes_max < 0 and found:
                    break
                found.append(line)
        return found


def _written(event: Mapping[str, Any]) -> str:
    """Return an event in a line: of an exception only what it says, the rest is in the host's journal."""
    more = {name: value for name, value in event.items() if name not in {"event", "level", "timestamp"}}
    raised = str(more.pop("exception", "")).strip().splitlines()[-1:]
    shown = [str(event.get("event", "")), *(f"{name}={value}" for name, value in more.items()), *raised]
    return " ".join(shown)


class HostLog:
    """Remembers how far each log was heard; a report that fails is made again at the next turn."""

    def __init__(self, sources: Sequence[LogSource], clock: Clock) -> None:
        self._sources = sources
        self._clock = clock
        self._after: dict[str, LogLine] = {}
        self._due = clock.monotonic()
        self._fails = False

    def send(self, link: Link) -> None:
        """Tell what is new, if it is time for that; raises UnauthenticatedError."""
        now = self._clock.monotonic()
        if not self._sources or now < self._due:
            return
        self._due = now + limits.HOST_LOG_SECONDS
        share = limits.HOST_LOG_REPORT_BYTES // len(self._sources)
        lines_max = limits.HOST_LOG_REPORT_LINES_MAX // len(self._sources)
        lines: list[LogLine] = []
        for source in self._sources:
            lines += islice(source.read(self._after.get(source.name), share), lines_max)
        if not lines:
            return
        try:
            link.push_log(lines)
        except UnauthenticatedError:
            raise
        except (PenstockError, OSError) as error:
            if not self._fails:  # once an outage: each line about it would be one more to tell
                log.warning("log_not_reported", error=str(error))
            self._fails = True
            return
        self._fails = False
        self._after |= {line.source: line for line in lines}
