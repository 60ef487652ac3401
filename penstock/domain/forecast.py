"""What will be sold if it goes on as it did: a straight line through the past, and nothing cleverer.

The method is ordinary least squares over equally spaced looks at the ledger. It knows no seasons, no calendar and
no new customer, and it looks no further ahead than the past it was drawn from. ``error`` says how far the past lay
from the line, so that a reader sees how much to believe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isqrt

METHOD = (
    "a straight line (least squares) through what was sold at equally spaced moments of the past, drawn on for as long "
    "as that past; it knows no seasons and no bookings"
)
LOOKS = 24
PAST_MIN = timedelta(hours=1)
PAST_MAX = timedelta(days=28)


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through looks: what it says ``ahead`` looks after the last one, and how far the past lay from it."""

    now: int
    then: int
    error: int
    steps_until_full: int | None


def moments(first: datetime, now: datetime) -> list[datetime]:
    """Return when to look: LOOKS moments up to ``now`` over the past since ``first``, at most PAST_MAX of it.

    Empty if the past is shorter than PAST_MIN.
    """
    past = min(now - first, PAST_MAX)
    if past < PAST_MIN:
        return []
    return [now - past * (LOOKS - 1 - step) / (LOOKS - 1) for step in range(LOOKS)]


def trend(sold: Sequence[int], capacity: int) -> Trend:
    """Return the line through ``sold`` (oldest first), kept between 0 and ``capacity``; ValueError for fewer than 2.

    ``then`` is as far ahead as the past is long; ``error`` is the root of the mean square of what the line misses;
    ``steps_until_full`` counts looks until the line reaches ``capacity``, None if it never does in that time.
    """
    looks = len(sold)
    if looks < 2:
        raise ValueError("a line needs two looks")
    # Exact integers: the slope is over / under, and the line at step x is (total + (2x - looks + 1) * slope * looks / 2) / looks.
    total = sum(sold)
    over = sum((2 * step - looks + 1) * one for step, one in enumerate(sold))  # twice the covariance
    under = sum((2 * step - looks + 1) ** 2 for step in range(looks))

    def at(step: int) -> int:
        """Return the line at a step, in millionths of a slice."""
        return 1_000_000 * total // looks + 1_000_000 * over * (2 * step - looks + 1) // under

    square = sum((at(step) - 1_000_000 * one) ** 2 for step, one in enumerate(sold)) // looks
    full = next((step for step in range(1, looks) if at(looks - 1 + step) >= 1_000_000 * capacity), None)
    then = min(max(at(2 * looks - 2), 0), 1_000_000 * capacity)
    return Trend(
        now=sold[-1],
        then=(then + 500_000) // 1_000_000,
        error=(isqrt(square) + 500_000) // 1_000_000,
        steps_until_full=0 if sold[-1] >= capacity else full,
    )
