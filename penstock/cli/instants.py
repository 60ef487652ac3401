"""Times on the command line: an ISO 8601 instant, a time of today or tomorrow, or so long from now."""

import re
from datetime import UTC, datetime, timedelta

from penstock.cli.errors import USAGE, CliError

_SPAN = re.compile(r"(\d{1,6})\s*([smhd])")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
HELP = "an instant (2027-01-31T14:20Z), a local time (14:20, the next there is), or from now (+2h)"


def span_seconds(text: str) -> int:
    """Return the seconds of ``90m``, ``2h``, ``1d12h`` or a plain number; CliError for anything else."""
    compact = text.strip().lower()
    if compact.isdigit():
        return int(compact)
    parts = _SPAN.findall(compact)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != compact.replace(" ", ""):
        raise CliError(f"'{text}' is no length of time; write for example 90m, 2h or 1d12h", USAGE)
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)


def parse_instant(text: str, now: datetime) -> str:
    """Return an instant in ISO 8601, UTC; ``now`` is aware, in the person's zone. CliError says what may be written."""
    compact = text.strip()
    if compact.startswith("+"):
        return _iso(now + timedelta(seconds=span_seconds(compact[1:])))
    clock = _CLOCK.fullmatch(compact)
    if clock is not None:
        then = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return _iso(then if then > now else then + timedelta(days=1))
    try:
        instant = datetime.fromisoformat(compact)
    except ValueError:
        raise CliError(f"'{text}' is no time; write {HELP}", USAGE) from None
    return _iso(instant if instant.tzinfo is not None else instant.replace(tzinfo=now.tzinfo))


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
