"""The rows that rating reads refuse what no meter can have measured."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock.domain.report import DeviceUsage, LedgerSummary, MeteredDevice, StateUsage, TokenUsage
from penstock.domain.segment import SegmentState

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("slices", "slice_us"), [(0, 1), (7, -1)])
def test_usage_without_slices_or_with_negative_time_is_a_defect(slices: int, slice_us: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        DeviceUsage("ten_a", "prj_a", "svc_a", None, "H100", "pbk_1", slices, slice_us)
    with pytest.raises(ValueError, match="negative"):
        StateUsage(SegmentState.FREE, None, "H100", slices, slice_us)


@pytest.mark.parametrize(("tokens_in", "tokens_out"), [(-1, 0), (0, -1)])
def test_negative_tokens_are_a_defect(tokens_in: int, tokens_out: int) -> None:
    with pytest.raises(ValueError, match="negative"):
        TokenUsage("ten_a", "prj_a", "svc_a", None, "tiny", "pbk_1", tokens_in, tokens_out)


def test_a_device_has_a_slice() -> None:
    with pytest.raises(ValueError, match="slice"):
        MeteredDevice("H100", 0)


def test_a_summary_tells_its_conservation_error_only_if_somebody_counted() -> None:
    states = (StateUsage(SegmentState.FREE, None, "H100", 7, 100),)
    assert LedgerSummary(START, START + HOUR, states).conservation_error_us is None
    assert LedgerSummary(START, START + HOUR, states, 100).conservation_error_us == 0
    assert LedgerSummary(START, START + HOUR, states, 130).conservation_error_us == -30
    assert LedgerSummary(START, START + HOUR, states).period_us == 3_600_000_000


def test_a_summary_covers_some_time() -> None:
    with pytest.raises(ValueError, match="empty"):
        LedgerSummary(START, START, ())
