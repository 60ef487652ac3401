"""Is this machine itself well: memory that is left, and work that waits for memory or processors."""

import os
import re
from pathlib import Path

from penstock.drivers.base import Check, CheckState

MEMORY_WARNING_PERCENT, MEMORY_BAD_PERCENT = 10, 4  # of all memory that is still available
STALL_WARNING_PERCENT, STALL_BAD_PERCENT = 10.0, 40.0  # of the last minute that something waited for memory
LOAD_WARNING, LOAD_BAD = 2.0, 8.0  # tasks that want to run, for each processor, over 5 minutes
_LINE = re.compile(r"^(\w+):\s+(\d+) kB", re.MULTILINE)
_STALL = re.compile(r"^some avg10=\S+ avg60=(\S+)", re.MULTILINE)


def checks(proc_root: Path) -> list[Check]:
    """Return the checks of memory and load; what this kernel does not say is left out."""
    found = [_memory(proc_root), _load(proc_root)]
    return [one for one in found if one is not None]


def _memory(proc_root: Path) -> Check | None:
    facts = dict(_LINE.findall(_read(proc_root / "meminfo")))
    total, left = int(facts.get("MemTotal", 0)), int(facts.get("MemAvailable", 0))
    if not total:
        return None
    percent = left * 100 / total
    stall = _STALL.search(_read(proc_root / "pressure" / "memory"))
    stalled_percent = float(stall[1]) if stall else 0.0
    message = f"{percent:.0f} % of the memory is available; for {stalled_percent:.0f} % of the last minute something waited for some"
    bad = percent < MEMORY_BAD_PERCENT or stalled_percent >= STALL_BAD_PERCENT
    warning = percent < MEMORY_WARNING_PERCENT or stalled_percent >= STALL_WARNING_PERCENT
    return Check("memory", graded(bad=bad, warning=warning), message)


def _load(proc_root: Path) -> Check | None:
    fields = _read(proc_root / "loadavg").split()
    if len(fields) < 3:
        return None
    each = float(fields[1]) / (os.cpu_count() or 1)
    message = f"{each:.1f} tasks want each processor, over 5 minutes"
    return Check("load", graded(bad=each >= LOAD_BAD, warning=each >= LOAD_WARNING), message)


def graded(*, bad: bool, warning: bool) -> CheckState:
    """Return the state of what is bad, or only worth a look, or neither."""
    return CheckState.BAD if bad else CheckState.WARNING if warning else CheckState.OK


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
