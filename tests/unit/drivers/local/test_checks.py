"""Memory and load of a machine, from files that the test writes."""

import os
from pathlib import Path

import pytest

from penstock.drivers.base import CheckState
from penstock.drivers.local.checks import checks


def _machine(root: Path, *, available_kib: int, stall: str = "0.00", load: float = 0.5) -> Path:
    (root / "pressure").mkdir(exist_ok=True)
    (root / "meminfo").write_text(f"MemTotal:  1000000 kB\nMemFree: 5 kB\nMemAvailable: {available_kib} kB\n")
    (root / "pressure" / "memory").write_text(f"some avg10=9.00 avg60={stall} avg300=0.00 total=1\n")
    (root / "loadavg").write_text(f"0.1 {load * (os.cpu_count() or 1)} 0.2 1/100 4711\n")
    return root


@pytest.mark.parametrize(
    ("more", "memory", "load"),
    [
        ({"available_kib": 500_000}, "ok", "ok"),
        ({"available_kib": 90_000, "load": 3.0}, "warning", "warning"),
        ({"available_kib": 30_000, "load": 9.0}, "bad", "bad"),
        ({"available_kib": 500_000, "stall": "12.50"}, "warning", "ok"),
        ({"available_kib": 500_000, "stall": "55.00"}, "bad", "ok"),
    ],
    ids=["well", "tight", "full", "stalls", "thrashes"],
)
def test_memory_and_load_are_judged(tmp_path: Path, more: dict[str, float], memory: str, load: str) -> None:
    found = {one.name: one for one in checks(_machine(tmp_path, **more))}
    assert (found["memory"].state, found["load"].state) == (CheckState(memory), CheckState(load))
    assert "% of the memory is available" in found["memory"].message


def test_what_a_kernel_does_not_say_is_left_out(tmp_path: Path) -> None:
    assert checks(tmp_path) == []
    assert {one.name for one in checks(Path("/proc"))} == {"memory", "load"}
