"""What an agent remembers of its own log, and how it is told: once, bounded, later if nobody listens."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from penstock.agent.host_log import HostLog, Ring
from penstock.base import limits
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.base.errors import UnauthenticatedError, UnavailableError
from penstock.domain.host_log import LogLine


class Link:
    """Hears of logs, if it is not told to fail."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.heard: list[Sequence[LogLine]] = []

    def push_log(self, lines: Sequence[LogLine]) -> None:
        if self.error is not None:
            raise self.error
        self.heard.append(lines)

    def texts(self) -> list[str]:
        return [line.text for line in self.heard[-1]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


def _say(ring: Ring, event: str, method: str = "info", **more: Any) -> None:
    said = {"event": event, "level": method, "timestamp": "now", **more}
    assert ring(None, method, said) is said


def test_a_line_is_what_was_said_of_what_and_what_was_raised(clock: ManualClock) -> None:
    ring = Ring(clock)
    _say(ring, "not_enrolled", "warning", error="away", allocation="all_1")
    _say(ring, "x_failed", "critical", exception="Traceback:\n  here\nValueError: out of \x1b[31mcheese\0\n")
    _say(ring, "y" * 3_000, "trace")
    first, second, third = ring.read(None, 1 << 20)
    assert (first.source, first.level, first.number) == ("agent", "warning", 1)
    assert first.at_us == to_epoch_us(clock.now())
    assert first.text == "not_enrolled error=away allocation=all_1"
    assert (second.level, second.text) == ("error", "x_failed ValueError: out of  [31mcheese")
    assert (third.level, len(third.text)) == ("info", limits.HOST_LOG_CHARACTERS_MAX)
    assert ring.read(second, 1 << 20) == [third]
    assert ring.read(third, 1 << 20) == []


def test_the_ring_and_a_report_are_bounded(clock: ManualClock) -> None:
    ring = Ring(clock)
    for number in range(limits.HOST_LOG_RING_LINES + 50):
        _say(ring, f"{number} " + "z" * 90)
    found = ring.read(None, 1 << 20)
    assert len(found) == limits.HOST_LOG_RING_LINES
    assert found[0].number == 51
    few = ring.read(found[9], 1_000)
    assert [line.number for line in few] == [found[10].number + n for n in range(10)]
    assert len(ring.read(None, 1)) == 1, "however long a line is, it goes on"


def test_what_is_new_is_told_once_and_later_if_nobody_listens(clock: ManualClock) -> None:
    ring, link = Ring(clock), Link()
    to: Any = link
    report = HostLog([ring], clock)
    _say(ring, "one")
    report.send(to)
    _say(ring, "two")
    report.send(to)
    assert link.texts() == ["one"], "it is not time yet"
    link.error = UnavailableError("away")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            clock.advance(timedelta(seconds=limits.HOST_LOG_SECONDS))
            report.send(to)
    assert [line["event"] for line in logs] == ["log_not_reported"], "once an outage"
    link.error = None
    for _ in range(3):
        clock.advance(timedelta(seconds=limits.HOST_LOG_SECONDS))
        report.send(to)
    assert link.texts() == ["two"]
    assert len(link.heard) == 2
    link.error = UnauthenticatedError("revoked")
    _say(ring, "three")
    clock.advance(timedelta(seconds=limits.HOST_LOG_SECONDS))
    with pytest.raises(UnauthenticatedError):
        report.send(to)
    HostLog([], clock).send(to)


def test_logs_share_a_report(clock: ManualClock) -> None:
    first, second, link = Ring(clock), Ring(clock), Link()
    second.name = "libvirtd"
    to: Any = link
    for _ in range(limits.HOST_LOG_RING_LINES):
        _say(first, "a" * 500)
        _say(second, "b")
    HostLog([first, second], clock).send(to)
    told = [line.source for line in link.heard[0]]
    assert told.count("libvirtd") == limits.HOST_LOG_REPORT_LINES_MAX // 2
    assert told.count("agent") == limits.HOST_LOG_REPORT_BYTES // 2 // 500
