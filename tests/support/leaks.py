"""Finds processes that a run of the tests left behind, daemonised ones too, by a mark in their environment."""

import contextlib
import os
import uuid

import psutil
import pytest

KEY = pytest.StashKey[list[str]]()
_MARK = "PYTEST_RUN_OF_PENSTOCK"
_PATIENCE_SECONDS = 5.0
_made_here = False


def mark_this_run() -> None:
    """Give every process started from here on the mark of this run; a worker keeps that of who started it."""
    global _made_here  # noqa: PLW0603 - a process has one mark
    if _MARK not in os.environ or "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ[_MARK] = uuid.uuid4().hex
        _made_here = True


def is_owner() -> bool:
    """Tell whether this process started the run, and may therefore judge every process that carries its mark."""
    return _made_here


def _is_ours(process: psutil.Process, mine: set[int]) -> bool:
    try:
        return (
            process.pid not in mine
            and process.environ().get(_MARK) == os.environ[_MARK]
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False  # gone meanwhile, or another person's: not ours in either case


def left_behind(*, keep: set[int] | None = None) -> list[psutil.Process]:
    """Return living processes with the mark of this run, except this process, its parents and ``keep``."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents()), *(keep or set())}
    return [process for process in psutil.process_iter() if _is_ours(process, mine)]


def stop_left_behind(
    *, keep: set[int] | None = None, patience_seconds: float = _PATIENCE_SECONDS
) -> list[str]:
    """Wait for the processes of this run to end, stop those that do not, and return a sentence about each.

    Waiting is fair: a process that was told to stop a moment ago is not a leak.
    """
    _, alive = psutil.wait_procs(left_behind(keep=keep), timeout=patience_seconds)
    sentences: list[str] = []
    for process in alive:
        try:
            command = " ".join(process.cmdline())[:200]
        except psutil.NoSuchProcess:
            continue  # it ended by itself after all
        sentences.append(
            f"process {process.pid} ({command}): stop what a test starts, in the fixture that started it"
        )
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself after all
            process.kill()
    psutil.wait_procs(alive, timeout=patience_seconds)
    return sentences
