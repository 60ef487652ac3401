"""How far a copy of a disk is, from what a host says of it; hosts are not believed more than is checked here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from penstock.base.units import format_bytes, format_duration

_MOST = (1 << 63) - 1
_SENTENCES = {"copying": "copied", "checking": "read back and compared"}


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that is under way; rate and time are None until they are known."""

    phase: str
    done_bytes: int
    total_bytes: int
    bytes_per_second: int | None
    left_seconds: int | None

    @property
    def percent(self) -> int:
        """Return how much is done, rounded down."""
        return min(100, self.done_bytes * 100 // self.total_bytes)

    @property
    def sentence(self) -> str:
        """Say it in words."""
        size = f"{format_bytes(self.done_bytes)} of {format_bytes(self.total_bytes)}"
        said = f"{self.percent} % {_SENTENCES[self.phase]} ({size}"
        if self.bytes_per_second:
            said += f", {format_bytes(self.bytes_per_second)} a second"
        if self.left_seconds is not None:
            said += f", about {format_duration(self.left_seconds)} left"
        return f"{said})"


def copy_of(detail: Mapping[str, Any] | None) -> Copy | None:
    """Return the copy that a host reports in ``detail``; None if there is none, or nothing sensible is said of it."""
    said: Any = (detail or {}).get("copy")
    if not isinstance(said, Mapping):
        return None
    given = cast("Mapping[str, Any]", said)
    done, total = _count(given, "done_bytes"), _count(given, "total_bytes")
    if given.get("phase") not in _SENTENCES or done is None or not total:
        return None
    rate, left = _count(given, "bytes_per_second"), _count(given, "left_seconds")
    return Copy(str(given["phase"]), min(done, total), total, rate, left)


def _count(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    return value if type(value) is int and 0 <= value <= _MOST else None
