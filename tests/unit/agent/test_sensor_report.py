"""What sensors say is told when it moved and now and then, in pieces; a failure costs nothing else."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from penstock.agent.link import Link
from penstock.agent.sensor_report import RETELL_SECONDS, SensorReport
from penstock.base.clock import ManualClock
from penstock.base.errors import PenstockError, UnauthenticatedError, UnavailableError
from penstock.base.limits import SENSOR_REPORT_SECONDS, SENSORS_PER_REPORT_MAX
from penstock.drivers.base import Reading


class Factory:
    """A source of readings and the other end of the link."""

    def __init__(self) -> None:
        self.says = [Reading("n1", 0, 500, 60), Reading("n1", 1, None, 40)]
        self.heard: list[Sequence[Reading]] = []
        self.error: PenstockError | None = None

    def sensors(self) -> Sequence[Reading]:
        return list(self.says)

    def push_readings(self, readings: Sequence[Reading]) -> None:
        if self.error is not None:
            raise self.error
        self.heard.append(readings)


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def report(factory: Factory, clock: ManualClock) -> SensorReport:
    return SensorReport([factory, object()], clock)


def told(
    report: SensorReport, factory: Factory, clock: ManualClock, after: float = SENSOR_REPORT_SECONDS
) -> list[Reading]:
    """Return what was told after some time."""
    clock.advance(timedelta(seconds=after))
    factory.heard.clear()
    report.send(cast("Link", factory))
    report.send(cast("Link", factory))  # not time yet: this one says nothing
    return [one for piece in factory.heard for one in piece]


def test_only_what_moved_noticeably_is_told_until_it_has_become_old(
    report: SensorReport, factory: Factory, clock: ManualClock
) -> None:
    first = list(factory.says)
    assert told(report, factory, clock) == first
    factory.says[0] = Reading("n1", 0, 509, 61)
    assert told(report, factory, clock) == [], "2 % and one degree are noise"
    assert factory.heard == [], "and no empty report is sent"
    for moved in (Reading("n1", 0, 511, 60), Reading("n1", 0, 511, 62), Reading("n1", 0, None, 62)):
        factory.says[0] = moved
        assert told(report, factory, clock) == [moved]
    assert told(report, factory, clock, RETELL_SECONDS) == factory.says


def test_what_was_not_heard_is_told_again_and_much_goes_in_pieces(
    report: SensorReport, factory: Factory, clock: ManualClock
) -> None:
    factory.error = UnavailableError("the database is away")
    assert told(report, factory, clock) == []
    factory.error = None
    factory.says = [Reading("n1", index, 100, 30) for index in range(SENSORS_PER_REPORT_MAX + 1)]
    assert told(report, factory, clock) == factory.says
    assert [len(piece) for piece in factory.heard] == [SENSORS_PER_REPORT_MAX, 1]
    factory.error = UnauthenticatedError("revoked")
    with pytest.raises(UnauthenticatedError):
        told(report, factory, clock, RETELL_SECONDS)


def test_an_agent_without_sensors_says_nothing(clock: ManualClock) -> None:
    none: Any = None
    SensorReport([object()], clock).send(none)
