"""Looks at a host beside the agent's other work: what is found is told, what hangs is bad, what fails too."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.agent.host_report import HostReport
from penstock.base import limits
from penstock.base.clock import ManualClock, to_epoch_us
from penstock.base.errors import UnauthenticatedError, UnavailableError
from penstock.drivers.base import Check, CheckState
from tests.support.waiting import until

WELL = Check("libvirtd", CheckState.OK, "it answers")


class Host:
    """Something to look at that may hang, and the link that hears of it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.refuses: Exception | None = None
        self.told: list[tuple[Sequence[Check], int]] = []

    def checks(self) -> Sequence[Check]:
        self.go_on.wait(60)
        if self.error is not None:
            raise self.error
        return [WELL]

    def push_checks(self, checks: Sequence[Check], at_us: int) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.told.append((list(checks), at_us))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.go_on.set()


def test_what_is_found_is_told_now_and_then(host: Host, clock: ManualClock) -> None:
    link: Any = host
    report = HostReport({"libvirt": host, "other": object()}, clock)
    until(lambda: report.send(link) or host.told, "it is told")
    assert host.told == [([WELL], to_epoch_us(clock.now()))]
    for _ in range(3):
        report.send(link)
    assert len(host.told) == 1
    clock.advance(timedelta(seconds=limits.HOST_CHECK_SECONDS))
    host.refuses = UnavailableError("away")
    host.error = RuntimeError("out of cheese")
    report.send(link)
    until(lambda: report.send(link) or not _looks(), "the look is over")
    report.send(link)
    host.refuses = None
    clock.advance(timedelta(seconds=limits.HOST_CHECK_SECONDS))
    until(lambda: report.send(link) or len(host.told) > 1, "what was not heard is looked at again")
    ((check,), _) = host.told[-1]
    assert (check.name, check.state, "out of cheese" in check.message) == ("libvirt", CheckState.BAD, True)


def test_what_hangs_is_bad_and_holds_nobody_up(host: Host, clock: ManualClock) -> None:
    link: Any = host
    before = set(threading.enumerate())  # another test's may just be ending
    host.go_on.clear()
    report = HostReport({"libvirt": host}, clock)
    report.send(link)
    report.send(link)
    assert host.told == []
    clock.advance(timedelta(seconds=limits.HOST_CHECK_PATIENCE_SECONDS))
    report.send(link)
    ((check,), _) = host.told[0]
    assert (check.name, check.state, check.message) == (
        "libvirt",
        CheckState.BAD,
        "it could not be looked at within 10 s",
    )
    # It hangs on: it is said again, and no second thread waits behind the first.
    clock.advance(timedelta(seconds=limits.HOST_CHECK_SECONDS))
    report.send(link)
    clock.advance(timedelta(seconds=limits.HOST_CHECK_PATIENCE_SECONDS))
    report.send(link)
    assert [one.state for checks, _ in host.told for one in checks] == [CheckState.BAD] * 2
    assert len([one for one in set(threading.enumerate()) - before if one.name == "checks-libvirt"]) == 1
    host.go_on.set()
    clock.advance(timedelta(seconds=limits.HOST_CHECK_SECONDS))
    until(lambda: report.send(link) or len(host.told) > 2, "it is told")
    assert host.told[-1][0] == [WELL]


def test_an_agent_that_is_not_accepted_hears_so(host: Host, clock: ManualClock) -> None:
    link: Any = host
    host.refuses = UnauthenticatedError("revoked")
    report = HostReport({"libvirt": host}, clock)
    report.send(link)
    until(lambda: not _looks(), "the look is over")
    with pytest.raises(UnauthenticatedError):
        report.send(link)
    HostReport({}, clock).send(link)


def _looks() -> bool:
    return any(thread.name.startswith("checks-") for thread in threading.enumerate())
