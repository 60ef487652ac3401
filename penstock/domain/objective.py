"""What an endpoint promises, and how fast it uses up what it may miss of that.

Two promises: a share of the requests begins and goes on fast enough (``percent``), and a share of them succeeds
(``availability_percent``). Burn is missed over allowed: 1 uses up exactly what may be missed, 10 ten times too fast.
"""

from dataclasses import dataclass
from datetime import timedelta

WINDOWS: tuple[tuple[str, timedelta], ...] = (
    ("5m", timedelta(minutes=5)),
    ("1h", timedelta(hours=1)),
    ("6h", timedelta(hours=6)),
    ("3d", timedelta(days=3)),
)


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests of a time: ``missed`` began late, went on slowly or failed; ``failed`` for no fault of their client."""

    requests: int = 0
    missed: int = 0
    late: int = 0
    slow: int = 0
    failed: int = 0


def burn_milli(requests: int, missed: int, promised_ppm: int) -> int:
    """Return missed over allowed in thousandths; 0 without requests. A promise of all allows nothing.

    ``promised_ppm`` is the share of the requests that keep the promise, in parts per million.
    """
    allowed_ppm = requests * (1_000_000 - promised_ppm)
    if not requests or not missed:
        return 0
    return missed * 1_000_000_000 // allowed_ppm if allowed_ppm else missed * 1_000
