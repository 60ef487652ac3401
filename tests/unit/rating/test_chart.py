"""The chart: well-formed XML, no script, said in words, readable in light and dark."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.units import HOURS_PER_YEAR, MICROEUR_PER_EUR
from penstock.domain.price import Meter, Price, PriceBook
from penstock.domain.report import LedgerSummary, StateUsage
from penstock.domain.segment import SegmentState
from penstock.rating import chart
from penstock.rating.chart import nice_step, roi_chart_svg
from penstock.rating.roi import MICROEUR_PER_YEAR_MAX, PRICES_MAX, Roi, roi_from_ledger, roi_from_parameters

START = datetime(2026, 1, 1, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"
ROI = roi_from_parameters(1_000, [7 * MICROEUR_PER_EUR, 15 * MICROEUR_PER_EUR], 600_000)


def parsed(roi: Roi) -> ET.Element:
    return ET.fromstring(roi_chart_svg(roi))  # noqa: S314 - our own output


def bars(root: ET.Element) -> list[ET.Element]:
    """Return the bars without the background and the legend's squares."""
    return [r for r in root.iter(f"{SVG}rect") if r.get("width") not in {"14", str(chart.WIDTH)}]


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_it_shows_each_figure_and_names_the_units_of_both_axes() -> None:
    shown = texts(parsed(ROI))
    for text in ("0.61 M", "1.31 M", "1.23 M", "2.63 M", "1.84 M", "3.94 M"):
        assert shown.count(text) == 1
    for text in ("7.00 EUR/GPU-h", "15.00 EUR/GPU-h", "+1 point", "+2 points", "+3 points"):
        assert shown.count(text) == 1
    assert "million EUR per year" in shown
    assert "gain in effective utilisation, percentage points" in shown


def test_the_bars_are_as_high_as_their_values() -> None:
    heights = [int(bar.attrib["height"]) for bar in bars(parsed(ROI))]
    plot = chart.HEIGHT - chart.TOP - chart.BOTTOM
    values = [0.6132, 1.314, 1.2264, 2.628, 1.8396, 3.942]  # million euro; the axis ends at 4
    assert heights == [int(plot * value / 4) for value in values]


def test_it_is_named_and_described_for_those_who_do_not_see_it() -> None:
    root = parsed(ROI)
    assert root.get("role") == "img"
    ids = (root.get("aria-labelledby") or "").split()
    named = {element.get("id"): element for element in root.iter() if element.get("id")}
    title, description = (named[i].text or "" for i in ids)
    assert "euro per year" in title
    assert "at 7.00 EUR/GPU-h: +1 point 0.61 M EUR, +2 points 1.23 M EUR, +3 points 1.84 M EUR" in description
    assert "at 15.00 EUR/GPU-h: +1 point 1.31 M EUR" in description


def test_it_runs_nothing_and_fetches_nothing() -> None:
    text = roi_chart_svg(ROI)
    assert "<script" not in text
    assert not re.search(r"\son[a-z]+=", text)
    assert re.findall(r"(?:https?:)?//[^\s\"'<]+", text) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in text
    assert "@import" not in text


def labelled(label: str) -> Roi:
    book = PriceBook(label, 1, (Price(Meter.GPU_HOURS, "*", 7_000_000),))
    state = StateUsage(SegmentState.FREE, None, "X", 1, 3_600_000_000, simulated=True)
    roi = roi_from_ledger(LedgerSummary(START, START + timedelta(hours=1), (state,)), [book])
    return replace(roi, prices=tuple(replace(one, label=label) for one in roi.prices))


@given(st.text())
def test_any_label_leaves_the_chart_well_formed(label: str) -> None:
    root = parsed(labelled(label))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg",
        "title",
        "desc",
        "style",
        "rect",
        "line",
        "text",
    }


def test_a_hostile_label_is_text() -> None:
    label = "</text><script>alert('\"&')</script>\x00"
    root = parsed(labelled(label))
    assert list(root.iter(f"{SVG}script")) == []
    description = next(root.iter(f"{SVG}desc")).text or ""
    assert label.replace("\x00", "\ufffd") in description


def test_simulated_capacity_is_named_in_the_title() -> None:
    assert "simulated" in (next(parsed(labelled("x")).iter(f"{SVG}title")).text or "")
    assert "simulated" not in roi_chart_svg(ROI)


@pytest.mark.parametrize(
    "prices",
    [[0], [1], [2_500_000], [1, 15_000_000], [n * 1_000_000 for n in range(1, PRICES_MAX + 1)], [10**12]],
)
@pytest.mark.parametrize("gpus", [1, 1_000, 10_000_000])
def test_every_size_of_fleet_and_number_of_prices_stays_inside_the_picture(
    gpus: int, prices: list[int]
) -> None:
    most = MICROEUR_PER_YEAR_MAX // (gpus * HOURS_PER_YEAR)
    drawn = bars(parsed(roi_from_parameters(gpus, [min(price, most) for price in prices], 0)))
    assert len(drawn) == 3 * len(prices)
    edges = []
    for bar in drawn:
        x, y, width, height = (int(bar.attrib[name]) for name in ("x", "y", "width", "height"))
        assert chart.TOP <= y <= y + height == chart.HEIGHT - chart.BOTTOM
        edges += [x, x + width]
    assert edges == sorted(edges), "bars stand side by side"
    assert chart.LEFT <= edges[0] <= edges[-1] <= chart.WIDTH - chart.RIGHT


@given(st.integers(0, 10**22))
def test_grid_lines_are_few_and_round(top: int) -> None:
    step = nice_step(top)
    assert re.fullmatch(r"[125]0*", str(step))
    lines = -(-top // step)
    assert lines <= 5
    assert lines >= 3 or step == 1


def luminance(colour: str) -> float:
    """Return relative luminance by WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    light, dark = sorted([luminance(a), luminance(b)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("background", "ink", "colours"),
    [
        (chart.LIGHT_BACKGROUND, chart.LIGHT_INK, chart.LIGHT_COLOURS),
        (chart.DARK_BACKGROUND, chart.DARK_INK, chart.DARK_COLOURS),
    ],
)
def test_text_and_bars_stand_out_in_light_and_dark(
    background: str, ink: str, colours: tuple[str, ...]
) -> None:
    assert contrast(ink, background) >= 7
    assert len(set(colours)) == len(set(chart.DASHES)) == PRICES_MAX
    assert min(contrast(colour, background) for colour in colours) >= 3
    assert "@media (prefers-color-scheme:dark)" in roi_chart_svg(ROI)


def test_charts_of_one_page_share_no_id_and_no_class() -> None:
    first, second = (set(re.findall(r'(?:id|class)="([^"]+)"', roi_chart_svg(ROI, i))) for i in ("a", "b"))
    assert first.isdisjoint(second)


@pytest.mark.parametrize("chart_id", ["", "1a", 'a"', "a b", "a\n"])
def test_a_chart_id_that_could_break_out_is_refused(chart_id: str) -> None:
    with pytest.raises(ValueError, match="chart id"):
        roi_chart_svg(ROI, chart_id)
