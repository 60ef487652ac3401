"""What drivers say of power is told when it is news, what the factory wants is done, and a failure costs nothing else."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import pytest

from penstock.agent.link import Link
from penstock.agent.power_report import PowerReport
from penstock.base.clock import ManualClock
from penstock.base.errors import PenstockError, UnauthenticatedError, UnavailableError
from penstock.base.limits import POWER_REPORT_SECONDS
from penstock.drivers.base import Driver


class Bmc:
    """A driver that powers two nodes."""

    def __init__(self) -> None:
        self.states = {"n1": "on", "n2": "on"}

    def power(self) -> Mapping[str, str]:
        return dict(self.states)

    def set_power(self, node_name: str, *, on: bool) -> None:
        self.states[node_name] = "waking" if on else "off"


class Factory:
    """The other end of the link: what it heard, and what it wants next."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        self.wanted: dict[str, bool] = {}
        self.error: PenstockError | None = None

    def push_power(self, states: Mapping[str, str]) -> Mapping[str, bool]:
        if self.error is not None:
            raise self.error
        self.heard.append(dict(states))
        return self.wanted


def told(report: PowerReport, factory: Factory, clock: ManualClock) -> dict[str, str]:
    clock.advance(timedelta(seconds=POWER_REPORT_SECONDS))
    report.send(cast("Link", factory))
    return factory.heard[-1]


@pytest.fixture
def bmc() -> Bmc:
    return Bmc()


@pytest.fixture
def report(bmc: Bmc, clock: ManualClock) -> PowerReport:
    return PowerReport([cast("Driver", bmc), cast("Driver", object())], clock)


def test_news_is_told_once_and_wishes_are_done(report: PowerReport, bmc: Bmc, clock: ManualClock) -> None:
    factory = Factory()
    assert told(report, factory, clock) == {"n1": "on", "n2": "on"}
    factory.wanted = {"n2": False, "elsewhere": False}
    assert told(report, factory, clock) == {}
    assert bmc.states == {"n1": "on", "n2": "off"}
    factory.wanted = {}
    report.send(cast("Link", factory))
    assert factory.heard[-1] == {"n2": "off"}, "what came of a wish is told at once"
    factory.wanted = {"n2": True}
    told(report, factory, clock)
    assert bmc.states["n2"] == "waking"


def test_what_was_not_heard_is_told_again(report: PowerReport, clock: ManualClock) -> None:
    factory = Factory()
    factory.error = UnavailableError("the database is away")
    clock.advance(timedelta(seconds=POWER_REPORT_SECONDS))
    report.send(cast("Link", factory))
    assert factory.heard == []
    factory.error = None
    assert told(report, factory, clock) == {"n1": "on", "n2": "on"}
    factory.error = UnauthenticatedError("revoked")
    with pytest.raises(UnauthenticatedError):
        told(report, factory, clock)


def test_an_agent_whose_drivers_power_nothing_says_nothing(clock: ManualClock) -> None:
    none: Any = None
    PowerReport([cast("Driver", object())], clock).send(none)
