"""Tables grow, and readers of a log see what changed."""

from penstock.scheduler.arrays import ChangeLog, Table


def test_a_table_grows_and_uses_spare_rows_again() -> None:
    table = Table(2)
    rows = [table.add((number, -number)) for number in range(40)]
    assert rows == list(range(40))
    assert table.column(1).tolist() == [-number for number in range(40)]
    table.drop(7)
    assert table.column(0)[7] == 0
    assert table.add((70, 71)) == 7
    assert table.size == 40


def test_a_reader_of_the_log_sees_each_changed_row_once() -> None:
    log = ChangeLog()
    start = log.position
    for row in (3, 1, 3):
        log.note(row)
    assert log.since(start) == [1, 3]
    assert log.since(log.position) == []
