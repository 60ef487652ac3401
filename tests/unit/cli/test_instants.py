"""Times as people write them on the command line."""

from datetime import datetime, timedelta, timezone

import pytest

from penstock.cli.errors import CliError
from penstock.cli.instants import parse_instant, span_seconds

BERLIN = timezone(timedelta(hours=1))
NOW = datetime(2026, 11, 1, 13, 30, 15, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-02T14:20Z", "2026-11-02T14:20:00Z"),
        ("2026-11-02 14:20", "2026-11-02T13:20:00Z"),
        ("2026-11-02", "2026-11-01T23:00:00Z"),
        ("14:20", "2026-11-01T13:20:00Z"),
        ("13:30", "2026-11-02T12:30:00Z"),
        ("+90m", "2026-11-01T14:00:15Z"),
        ("+1d12h", "2026-11-03T00:30:15Z"),
    ],
)
def test_instants(text: str, instant: str) -> None:
    assert parse_instant(text, NOW) == instant


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90m", 5_400), ("1d 12h", 129_600), ("2H", 7_200)]
)
def test_lengths(text: str, seconds: int) -> None:
    assert span_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "tomorrow", "25:00", "+", "+2x", "+2h3", "2026-13-01"])
def test_what_is_no_time_says_what_may_be_written(text: str) -> None:
    with pytest.raises(CliError, match="write"):
        parse_instant(text, NOW)
