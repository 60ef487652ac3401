"""Waiting for something the factory does: a spinner with the phase it is in, and a limit."""

import sys
import time
from collections.abc import Callable
from typing import Any, Self, TextIO

from penstock.base.clock import Clock, SystemClock
from penstock.base.units import format_duration
from penstock.cli.errors import REFUSED, CliError

Document = dict[str, Any]
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


def wait_for(
    fetch: Callable[[], Document],
    *,
    done: Callable[[Document], bool],
    phase: Callable[[Document], str],
    timeout_seconds: float,
    what: str,
    stream: TextIO | None = None,
    clock: Clock | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Document:
    """Ask until ``done``, showing ``phase`` of the latest answer; return that answer.

    On a terminal one line with a spinner is kept up to date; elsewhere each new phase is a line of its own.
    Both go to stderr. Raises CliError after ``timeout_seconds``: the factory goes on without us.
    """
    clock = clock or SystemClock()
    started = clock.monotonic()
    seconds = _FIRST_PAUSE_SECONDS
    with _Progress(sys.stderr if stream is None else stream) as progress:
        while True:
            document = fetch()
            waited = clock.monotonic() - started
            progress.show(f"{what}: {phase(document)}", waited)
            if done(document):
                return document
            if waited >= timeout_seconds:
                raise CliError(
                    f"{what} is still '{phase(document)}' after {format_duration(waited)}; it goes on by itself, "
                    "look again later or wait longer with --timeout",
                    REFUSED,
                )
            pause(min(seconds, max(0.0, timeout_seconds - waited)))
            seconds = min(_LONGEST_PAUSE_SECONDS, seconds * 1.5)


class _Progress:
    """The line on stderr."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = ""
        self._status: Any = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            from rich import console, text  # noqa: PLC0415 - slow to load and not needed in a pipe

            self._as_text = text.Text
            self._status = console.Console(file=self._stream).status("")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, text: str, waited: float) -> None:
        if self._status is not None:
            self._status.update(self._as_text(f"{text} ({format_duration(waited)})"))
        elif text != self._last:
            self._stream.write(f"{text} ({format_duration(waited)})\n")
            self._stream.flush()
        self._last = text
