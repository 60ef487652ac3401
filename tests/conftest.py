"""What holds for every test: it reaches nothing outside this machine and leaves nothing behind.

Fixtures do not go here: each module in tests/fixtures/ is loaded as a plugin by being there. Helpers that are
no fixtures live in tests/support/ and are imported as ``from tests.support import ...``.
"""

import gc
import os
from pathlib import Path

import hypothesis
import pytest

from tests.support import homes, leaks, network

# Before anything else is imported: libraries read these settings at import time.
homes.move_away()
leaks.mark_this_run()
network.refuse_strangers()

pytest_plugins = [
    f"tests.fixtures.{path.stem}"
    for path in sorted((Path(__file__).parent / "fixtures").glob("*.py"))
    if path.stem != "__init__"
]

# Wall-clock deadlines per example fail on a busy machine and say nothing about the code.
# A check of a change has to say something of that change: `.ci/run` tries the same examples every time. New ones are
# tried wherever somebody runs the tests by hand.
hypothesis.settings.register_profile("penstock", deadline=None, print_blob=True)
hypothesis.settings.register_profile("repeatable", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("repeatable" if os.environ.get("PENSTOCK_TESTS_REPEATABLE") else "penstock")


# Groups whose tests one worker runs one after another, the longest first; the Makefile has workers begin with what is first.
_GROUPS = ("nfs", "vm", "network", "browser")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is still at it when the others are done; the rest is in any order."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    group = item.get_closest_marker("xdist_group")
    if group is not None and group.args[0] in _GROUPS:
        return _GROUPS.index(group.args[0])
    return len(_GROUPS) + (item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Look for garbage less often: thousands of collected tests would be looked through each time, and stay (a tenth of the time)."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if a process of it is still alive, and stop that process."""
    if not leaks.is_owner():
        return  # a worker's processes are looked for by the run that started it, when all workers are done
    left_behind = leaks.stop_left_behind()
    if left_behind:
        session.config.stash[leaks.KEY] = left_behind
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the processes that were left behind."""
    for sentence in config.stash.get(leaks.KEY, []):
        terminalreporter.write_line(f"LEFT BEHIND: {sentence}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the temporary home of this process."""
    del config
    homes.remove()
