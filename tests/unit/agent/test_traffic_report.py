"""What networks carry is told soon, counters less often; what could not be told is told later."""

from datetime import timedelta
from typing import cast

import pytest

from penstock.agent.link import Link
from penstock.agent.traffic_report import TrafficReport
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.base.errors import PenstockError, UnauthenticatedError, UnavailableError
from penstock.drivers.base import FlowSeen, PortCount, Traffic

FLOW = FlowSeen("net_1", 1, "drop", "default-in", None, "tcp", "10.0.0.9", "10.0.0.2", 4_000, 22)


class Host:
    """A driver that saw something, and the other end of the link."""

    def __init__(self) -> None:
        self.flows = [FLOW]
        self.counts = [PortCount("prt_1", 1, 1, 0, 1, 1, 0)]
        self.heard: list[Traffic] = []
        self.told = 0
        self.error: PenstockError | None = None

    def traffic(self, *, counts: bool) -> Traffic:
        return Traffic(list(self.flows), list(self.counts) if counts else [])

    def traffic_told(self) -> None:
        self.told += 1

    def push_traffic(self, said: Traffic) -> None:
        if self.error is not None:
            raise self.error
        self.heard.append(said)


@pytest.fixture
def host() -> Host:
    return Host()


def turn(report: TrafficReport, host: Host, clock: ManualClock) -> list[Traffic]:
    host.heard.clear()
    for _ in range(2):  # the second time it is not time yet
        report.send(cast("Link", host))
    clock.advance(timedelta(seconds=limits.FLOW_REPORT_SECONDS))
    return list(host.heard)


def test_flows_are_told_each_time_and_counters_now_and_then(host: Host, clock: ManualClock) -> None:
    report = TrafficReport([host, object()], clock)
    each = [turn(report, host, clock) for _ in range(4)]
    assert [[len(said.flows) for said in one] for one in each] == [[1]] * 4
    assert [len(one[0].counts) for one in each] == [1, 0, 0, 1]
    host.flows.clear()
    assert turn(report, host, clock) == [], "nothing to tell, nothing told"


def test_what_was_not_heard_is_not_marked_as_told(host: Host, clock: ManualClock) -> None:
    report = TrafficReport([host], clock)
    host.error = UnavailableError("away")
    assert turn(report, host, clock) == []
    assert host.told == 0
    host.error = None
    assert len(turn(report, host, clock)) == 1
    assert host.told == 1
    host.error = UnauthenticatedError("gone")
    with pytest.raises(UnauthenticatedError):
        turn(report, host, clock)


def test_many_ports_are_told_in_pieces(
    host: Host, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PORT_COUNTS_PER_REPORT_MAX", 2)
    host.counts *= 5
    assert [len(said.counts) for said in turn(TrafficReport([host], clock), host, clock)] == [2, 2, 1]
