"""Waiting: phases are shown once each, the end comes by itself, and there is a limit."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.base.clock import ManualClock
from penstock.cli.errors import CliError
from penstock.cli.wait import wait_for


def states(*names: str) -> Callable[[], dict[str, Any]]:
    left = list(names)
    return lambda: {"state": left.pop(0) if len(left) > 1 else left[0]}


def run(
    fetch: Callable[[], dict[str, Any]], timeout_seconds: float
) -> tuple[str, list[float], dict[str, Any]]:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    stream, pauses = io.StringIO(), list[float]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(timedelta(seconds=seconds))

    document = wait_for(
        fetch,
        done=lambda d: d["state"] == "running",
        phase=lambda d: str(d["state"]),
        timeout_seconds=timeout_seconds,
        what="svc_1",
        stream=stream,
        clock=clock,
        pause=pause,
    )
    return stream.getvalue(), pauses, document


def test_each_phase_is_one_line_and_the_last_answer_is_returned() -> None:
    text, pauses, document = run(states("queued", "queued", "starting", "starting", "running"), 60)
    assert [line.split(" (")[0] for line in text.splitlines()] == [
        "svc_1: queued",
        "svc_1: starting",
        "svc_1: running",
    ]
    assert document == {"state": "running"}
    assert pauses == sorted(pauses)


def test_what_is_there_already_needs_no_pause() -> None:
    _, pauses, _ = run(states("running"), 60)
    assert pauses == []


def test_the_limit_says_that_it_goes_on_without_us() -> None:
    with pytest.raises(CliError, match=r"svc_1 is still 'queued' after 10\.0 s; it goes on by itself"):
        run(states("queued"), 10)
