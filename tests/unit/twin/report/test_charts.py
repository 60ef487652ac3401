"""Charts: well-formed, self-contained, readable without colour and by a screen reader."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.twin.report.charts import STYLE, bar_chart, line_chart, nice_top, shown, text
from penstock.twin.report.comparison import Bars, Line

SVG = "{http://www.w3.org/2000/svg}"
LINES = (Line("easy", (0, 6, 12), (0, 50, 100)), Line("<b>&", (0, 6), (10, 20)))
BARS = Bars(("1", "16 and more"), (1.5, 30), (0.25, 0))


@pytest.mark.parametrize(
    "svg",
    [
        line_chart("over", "Use & time", "hours", LINES),
        bar_chart("waits", "Waits", "GPUs", ("easy", "x" * 200), BARS),
        bar_chart("none", "Nothing", "", ("a", "b"), Bars(("x",), (0,), (0,))),
    ],
)
def test_a_chart_says_what_it_is_and_stays_inside(svg: str) -> None:
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    ids = {element.get("id") for element in root.iter()}
    assert root.get("role") == "img"
    assert set((root.get("aria-labelledby") or "").split()) <= ids
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    for box in root.iter(f"{SVG}rect"):
        assert 0 <= float(box.get("y", "")) <= 340
        assert float(box.get("y", "")) + float(box.get("height", "")) <= 340
    for line in root.iter(f"{SVG}polyline"):
        for point in (line.get("points") or "").split():
            x, y = map(float, point.split(","))
            assert 72 <= x <= 836
            assert 64 <= y <= 284


def test_the_lines_are_where_the_figures_are() -> None:
    root = ET.fromstring(line_chart("over", "t", "hours", LINES))  # noqa: S314 - our own text
    a, b = (line.get("points") for line in root.iter(f"{SVG}polyline"))
    assert a == "72.0,284.0 454.0,174.0 836.0,64.0"
    assert b == "72.0,262.0 454.0,240.0"


def test_bars_carry_their_numbers_and_b_is_told_apart_without_colour() -> None:
    svg = bar_chart("waits", "t", "GPUs", ("a", "b"), BARS)
    for figure in ("1.5", "30", "0.25", "0"):
        assert f">{figure}</text>" in svg
    assert "stroke-dasharray" in STYLE
    assert "url(#hatch)" in STYLE
    assert "16 and more: a 30, b 0" in svg


@given(st.floats(0.001, 1e9))
def test_an_axis_holds_its_largest_value_with_few_lines(largest: float) -> None:
    top, step = nice_top(largest)
    assert top >= largest * 0.999999
    assert 2 <= round(top / step) <= 6
    assert re.fullmatch(r"[125](\.0*)?e.*", f"{step:e}")


def test_figures_have_no_more_digits_than_they_are_worth() -> None:
    values = (0, 0.2187, 1.5, 14.9268, 100, 107.77, 1234567, -2.5, 20)
    assert [shown(value) for value in values] == [
        "0",
        "0.219",
        "1.5",
        "14.93",
        "100",
        "107.8",
        "1,234,567",
        "-2.5",
        "20",
    ]


def test_text_is_safe() -> None:
    assert text('<a href="x">&\x00') == "&lt;a href=&quot;x&quot;&gt;&amp;\ufffd"
