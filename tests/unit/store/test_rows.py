"""Rows are written in parts that no statement timeout ends."""

from pathlib import Path

import pytest

from penstock.base.limits import ROWS_PER_STATEMENT_MAX
from penstock.control_plane import ControlPlane
from penstock.store import rows
from penstock.store.rows import batches
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory


def test_rows_come_in_parts_that_are_whole_together() -> None:
    numbers = list(range(2 * ROWS_PER_STATEMENT_MAX + 1))
    parts = list(batches(numbers))
    assert [len(part) for part in parts] == [ROWS_PER_STATEMENT_MAX, ROWS_PER_STATEMENT_MAX, 1]
    assert [row for part in parts for row in part] == numbers
    assert list(batches([])) == []


def test_a_site_is_enrolled_in_parts(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROWS_PER_STATEMENT_MAX", 3)
    factory = SimulatedFactory(control_plane, tmp_path, "5x4:H100")
    try:
        for table, count in (("node", 5), ("device", 20), ("segment", 20)):
            assert len(query(control_plane.context, f"SELECT 1 FROM {table}")) == count  # noqa: S608 - constants
        assert len(factory.nodes) == 5
    finally:
        factory.close()
