"""What is there is told when it changes and now and then; what is unwanted goes; a factory that is away costs nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.agent.weights_report import WeightsReport
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.base.errors import UnauthenticatedError, UnavailableError
from penstock.domain.weights import Copy
from penstock.drivers.weights.cache import WeightsCache
from tests.support.weights import HeldSource, settle


class Told:
    """The part of a link that takes reports."""

    def __init__(self) -> None:
        self.said: list[list[str]] = []
        self.unwanted: list[str] = []
        self.fails: Exception | None = None

    def push_weights(self, copies: Sequence[Copy]) -> Sequence[str]:
        if self.fails is not None:
            raise self.fails
        self.said.append([copy.sha256 for copy in copies])
        return self.unwanted


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


def test_reports_come_when_there_is_news_and_what_is_unwanted_goes(
    tmp_path: Path, clock: ManualClock
) -> None:
    source, link = HeldSource(), Told()
    wanted = source.add({"model.bin": b"w"})
    cache = WeightsCache(tmp_path, source, clock)
    report = WeightsReport(cache, clock)
    to: Any = link

    def step(seconds: float) -> None:
        clock.advance(timedelta(seconds=seconds))
        report.send(to)

    step(0)
    assert link.said == [[]]  # whatever the factory knew before is over
    step(2)
    assert settle(cache, wanted).folder is not None
    step(2)
    step(2)
    assert link.said == [[], [wanted.sha256]]
    step(limits.WEIGHTS_REPORT_SECONDS)
    assert link.said == [[], [wanted.sha256], [wanted.sha256]]
    link.fails = UnavailableError("away")
    step(limits.WEIGHTS_REPORT_SECONDS)
    link.fails = None
    link.unwanted = [wanted.sha256]
    step(limits.WEIGHTS_REPORT_SECONDS)
    assert not (tmp_path / wanted.sha256).exists()
    link.unwanted = []
    step(2)
    assert link.said[-1] == []
    assert settle(cache, wanted).folder is not None
    link.fails = UnauthenticatedError("revoked")
    with pytest.raises(UnauthenticatedError):
        step(limits.WEIGHTS_REPORT_SECONDS)
