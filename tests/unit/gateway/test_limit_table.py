"""The table of counters: shared by name, kept over restarts for as long as it counts, locked against rivals."""

import os
import struct
from pathlib import Path

import pytest

from penstock.base.errors import StartupError
from penstock.gateway import limit_table
from penstock.gateway.limit_table import LimitTable
from penstock.gateway.limits import FREE, Instant, Limits, Refused, Scope, admit

DAY, MONTH = 700, 24_000


def opened(path: Path | None, *, day: int = DAY, month: int = MONTH, rows: int = 16) -> LimitTable:
    return LimitTable.open(path, rows, day, month)


def used(table: LimitTable, name: str = "one") -> Scope:
    """Return a scope that has used 30 tokens of the day and 7 micro-euro, and holds 10 tokens of the minute."""
    found = Scope("key", table, name)
    found.take(Limits(tokens_per_minute=100, tokens_per_day=100, microeur_per_month=100))
    found.tokens.advance(5)
    found.reserve(10, 3)
    found.charge(Instant(5, DAY, MONTH), 30, 7)
    return found


def test_counts_outlive_a_restart_and_reservations_do_not(tmp_path: Path) -> None:
    path = tmp_path / "limits.bin"
    assert used(opened(path)).room(Instant(5, DAY, MONTH), FREE) == 60
    again = Scope("key", opened(path), "one")
    again.limits = Limits(tokens_per_minute=100, tokens_per_day=100)
    assert again.spent(Instant(5, DAY, MONTH)) == (30, 7)
    assert again.tokens.total == 10
    assert again.room(Instant(5, DAY, MONTH), FREE) == 70


def test_a_new_day_or_month_begins_at_nothing(tmp_path: Path) -> None:
    path = tmp_path / "limits.bin"
    used(opened(path))
    assert Scope("key", opened(path, day=DAY + 1), "one").spent(Instant(5, DAY, MONTH)) == (0, 7)
    later = Scope("key", opened(path, day=DAY + 1, month=MONTH + 1), "one")
    assert later.spent(Instant(5, DAY + 1, MONTH + 1)) == (0, 0)


def test_minutes_begin_anew_with_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "limits.bin"
    used(opened(path))
    other = tmp_path / "boot_id"
    other.write_text("another")
    monkeypatch.setattr(limit_table, "_BOOT_ID", other)
    again = Scope("key", opened(path), "one")
    assert again.tokens.total == 0
    assert again.spent(Instant(5, DAY, MONTH)) == (30, 7)


@pytest.mark.parametrize("raw", [b"", b"x" * 100, None])
def test_a_foreign_file_is_begun_anew(tmp_path: Path, raw: bytes | None) -> None:
    path = tmp_path / "limits.bin"
    opened(path)
    path.write_bytes(b"\xff" * path.stat().st_size if raw is None else raw)
    assert Scope("key", opened(path), "one").spent(Instant(5, DAY, MONTH)) == (0, 0)


def test_another_size_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "limits.bin"
    used(opened(path))
    assert Scope("key", opened(path, rows=32), "one").spent(Instant(5, DAY, MONTH)) == (0, 0)


def test_a_full_table_gives_rows_of_its_own() -> None:
    table = opened(None, rows=2)
    rows = [table.row(str(i)) for i in range(3)]
    assert table.full
    rows[2][1] = 7
    assert [row[1] for row in rows[:2]] == [0, 0]


def test_a_table_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="check the disk"):
        opened(tmp_path / "none" / "limits.bin")


def _race(table: LimitTable, process: int, admitted: int, gate: int) -> None:
    """Take as much as is admitted, as one process of several, and say how much that was."""
    table.share(process)
    own = Scope("key", table, "one")
    own.take(Limits(requests_per_minute=20_000, tokens_per_day=200_000))
    os.read(gate, 1)
    count = 0
    for _ in range(8_000):
        count += not isinstance(admit(table, (own,), Instant(5, DAY, MONTH), 1, 4, stated=True), Refused)
    os.write(admitted, struct.pack("i", count))


@pytest.mark.parametrize("file", [True, False])
def test_processes_admit_together_exactly_what_is_allowed(tmp_path: Path, *, file: bool) -> None:
    table = opened(tmp_path / "limits.bin" if file else None)
    told, tell = os.pipe()
    gate, open_gate = os.pipe()
    children: list[int] = []
    for process in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _race(table, process, tell, gate)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.write(open_gate, b"1234")
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    assert sum(struct.unpack("4i", os.read(told, 16))) == 20_000
    for handle in (told, tell, gate, open_gate):
        os.close(handle)
