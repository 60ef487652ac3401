"""Tables in a pipe: nothing cut off, nothing interpreted, no trailing blanks."""

import io

from penstock.cli import table
from penstock.cli.output import Column, Kind

COLUMNS = (Column("ID", "id"), Column("SIZE", "size", Kind.BYTES), Column("NOTE", "note"))


def test_a_table_in_a_pipe_is_whole() -> None:
    stream = io.StringIO()
    long = "x" * 500
    table.show_table(
        [{"id": "a", "size": 1 << 30, "note": long}, {"id": "b", "size": None, "note": "[bold]"}],
        COLUMNS,
        stream,
    )
    header, first, second = stream.getvalue().splitlines()
    assert header.split() == ["ID", "SIZE", "NOTE"]
    assert first.split() == ["a", "1.0", "GiB", long]
    assert second.split() == ["b", "-", "[bold]"]
    assert all(line == line.rstrip() for line in (header, first, second))


def test_one_object_is_a_line_for_each_field() -> None:
    stream = io.StringIO()
    table.show_fields({"id": "a", "size": 2048, "note": "[red]text"}, COLUMNS, stream)
    assert [line.split(maxsplit=1) for line in stream.getvalue().splitlines()] == [
        ["ID", "a"],
        ["Size", "2.0 KiB"],
        ["Note", "[red]text"],
    ]


def test_titles_of_columns_become_names_of_fields() -> None:
    stream = io.StringIO()
    titles = ("CHUNK CHARACTERS", "CPU PARTS", "PCI", "Price per hour", "SIZE (GIB)", "GIB-HOURS")
    table.show_fields({"x": "-"}, tuple(Column(title, "x") for title in titles), stream)
    names = [line.removesuffix("-").strip() for line in stream.getvalue().splitlines()]
    assert names == ["Chunk characters", "CPU parts", "PCI", "Price per hour", "Size (GiB)", "GiB-hours"]
