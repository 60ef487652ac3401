"""Waiting for what processes, threads and machines do where nothing can wake the waiter: bounded in time, and named."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")

PATIENCE_SECONDS = 90.0  # for machines under software emulation beside other tests
_PAUSE_SECONDS = 0.02


def until(
    true: Callable[[], Answer],
    what: str | Callable[[], str] = "it comes true",
    seconds: float = PATIENCE_SECONDS,
    *,
    pause_seconds: float = _PAUSE_SECONDS,
) -> Answer:
    """Return the first answer that is true; the test fails after ``seconds``.

    ``what`` says what is waited for, or, as a function, what is there instead.
    """
    end = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(pause_seconds)
    return found


def poll(
    call: Callable[[], Answer], done: Callable[[Answer], bool], seconds: float = PATIENCE_SECONDS
) -> Answer:
    """Return the first answer of ``call`` that is ``done``, true or not; the test fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not done(found := call()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s; it is {found}")
        time.sleep(_PAUSE_SECONDS)
    return found
