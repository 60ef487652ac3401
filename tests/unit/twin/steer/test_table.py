"""A table is read row by row with its line number."""

from pathlib import Path

from penstock.twin.steer.table import read_table


def test_rows_come_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,2\n"x\ny",4\n')
    rows = list(read_table(path, ("a", "b"), "nodes"))
    assert rows == [(f"{path}, line 2", {"a": "1", "b": "2"}), (f"{path}, line 4", {"a": "x\ny", "b": "4"})]
