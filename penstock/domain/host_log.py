"""Lines of a host's logs, as its agent tells them: bounded, and fit for a terminal."""

from dataclasses import dataclass

from penstock.base import limits

SOURCES = ("agent", "libvirtd")
LEVELS = ("debug", "info", "warning", "error")  # from the least


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of ``source``. Within a ``run`` numbers grow; a run and a number name the same line for ever."""

    source: str
    run: str
    number: int
    at_us: int
    level: str
    text: str


def plain(text: str) -> str:
    """Return a line without what steers a terminal or cannot be stored, and no longer than it may be."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown[: limits.HOST_LOG_CHARACTERS_MAX].strip()


def at_least(level: str | None) -> tuple[str, ...]:
    """Return the levels from ``level`` up; None: all."""
    return LEVELS if level is None else LEVELS[LEVELS.index(level) :]
