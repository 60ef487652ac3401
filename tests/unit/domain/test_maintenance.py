"""What becomes of the work on a node that goes out of work."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock.domain.maintenance import Fate, fate_of

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
BEFORE, AFTER = START - timedelta(hours=1), START + timedelta(hours=1)


@pytest.mark.parametrize(
    ("yields", "movable", "ends_at", "fate"),
    [
        (True, False, None, Fate.YIELDS),
        (True, False, BEFORE, Fate.ENDS),
        (False, True, None, Fate.MOVES),
        (False, True, AFTER, Fate.MOVES),
        (False, False, START, Fate.ENDS),
        (False, False, AFTER, Fate.STAYS),
        (False, False, None, Fate.STAYS),
    ],
)
def test_the_fate_of_a_service(yields: bool, movable: bool, ends_at: datetime | None, fate: Fate) -> None:  # noqa: FBT001 - a row of the table
    found = fate_of(yields=yields, movable=movable, ends_at=ends_at, start=START)
    assert found is fate
    assert found.sentence
