"""The comparison as one HTML page that needs nothing beside itself: charts, tables, and how it was worked out."""

from collections.abc import Iterable, Sequence

from penstock.base.units import HOURS_PER_YEAR, format_eur
from penstock.rating.roi import format_eur_short
from penstock.twin.report.charts import COLOURS, HATCH, STYLE, bar_chart, line_chart, shown, text
from penstock.twin.report.comparison import Bars, Comparison

_PAGE_STYLE = (
    "body{background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;"
    "padding:0 1rem}h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2rem}"
    ".sum{font-size:1.25rem;font-weight:600}table{border-collapse:collapse;margin:.6rem 0}"
    "th,td{padding:.25rem .8rem;text-align:right;border-bottom:1px solid color-mix(in srgb,var(--ink) 20%,transparent)}"
    "th:first-child,td:first-child{text-align:left}td.better{font-weight:700}svg.chart{max-width:100%;height:auto}"
    "caption{text-align:left;font-weight:600;padding:.3rem 0}summary{cursor:pointer}"
    "@media print{body{max-width:none;margin:0}details>table{display:none}}"
)
_STUDIES = {
    "queue": ("Utilisation over time", "hours since the first job was submitted", "useful utilisation, %"),
    "place": ("Allocation as requests arrive", "arrived, % of the fleet", "allocated, %"),
    "topology": ("", "", ""),  # it prints no course over time
}

_KINDS = {
    "queue": "jobs of a trace queueing for",
    "place": "requests of a trace placed on",
    "topology": "gangs in shapes on a site of NVLink racks with",
}
_USED = {
    "queue": "useful GPU time between the first and the last submission; lost work does not count",
    "place": "allocated GPUs in percent of the fleet after 130 % of it has been asked for, the mean of the seeds",
    "topology": "GPUs in use in percent of the site after the warm-up, the mean of the loads and seeds; a policy that ignores "
    "shapes uses more and keeps fewer of them",
}


def page(comparison: Comparison) -> str:
    """Return the page as HTML text."""
    a, b = comparison.a, comparison.b
    heading = f"{b} against {a}"
    over_title, x_title, y_title = _STUDIES[comparison.study]
    body: list[str] = [
        f"<h1>{text(heading)}</h1>",
        f"<p>{_what(comparison)} A is <b>{text(a)}</b>, B is <b>{text(b)}</b>.</p>",
        f'<p class="sum">{text(_sentence(comparison))}</p>',
        "<h2>Figures</h2>",
        _figures(comparison),
    ]
    if comparison.over is not None:
        first, second = comparison.over
        rows = [
            (shown(x), _cell(first.y, index), _cell(second.y, index))
            for index, x in enumerate(max(first.x, second.x, key=len))
        ]
        body += [
            f"<h2>{over_title}</h2>",
            line_chart("over", f"{over_title}: {y_title}", x_title, comparison.over),
            _details(_table(over_title, (x_title, f"A: {a}", f"B: {b}"), rows)),
        ]
    if comparison.waits is not None:
        body += ["<h2>Waits by size</h2>", *_waits(comparison, comparison.waits)]
    broken = comparison.fragmentation
    if broken is not None:
        bars = Bars((broken.name,), (broken.a,), (broken.b,))
        body += [
            "<h2>Fragmentation</h2>",
            bar_chart("broken", "Fragmentation, % of the GPUs", "", (a, b), bars),
        ]
    body += ["<h2>Euro a year</h2>", _euro(comparison)]
    if comparison.energy is not None:
        body += ["<h2>Energy</h2>", _energy(comparison)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(heading)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{COLOURS}{_PAGE_STYLE}{STYLE}</style></head>\n<body>{HATCH}<main>\n"
        + "\n".join(body)
        + f"\n<h2>How it was worked out</h2>{_method(comparison)}\n</main></body></html>\n"
    )


def _what(comparison: Comparison) -> str:
    kind = _KINDS[comparison.study]
    return f"A simulated study: {kind} {comparison.gpus:,} GPUs, the same under both policies."


def _sentence(comparison: Comparison) -> str:
    points = comparison.points
    if not points:
        return "Both use the GPUs equally."
    more = f"{abs(points):.2f} points {'more' if points > 0 else 'less'} utilisation under {comparison.b}"
    if not comparison.values:
        return f"{more}."
    worth = ", ".join(
        f"{format_eur_short(value.microeur_per_year)} a year at {_price(value.microeur_per_gpu_hour)}"
        for value in comparison.values
    )
    return f"{more}: {worth}."


def _price(microeur: int) -> str:
    return f"{format_eur(microeur, 2 if microeur % 10_000 == 0 else 6)}/GPU-h"


def _figures(comparison: Comparison) -> str:
    rows: list[str] = []
    for one in comparison.measures:
        cells = "".join(
            f"<td{' class=better' if one.better == side else ''}>{shown(value)}</td>"
            for side, value in (("a", one.a), ("b", one.b))
        )
        sign = "+" if one.difference > 0 else ""
        unit = {"": "", "%": " points"}.get(one.unit, f" {one.unit}")
        rows.append(
            f'<tr><th scope="row">{text(one.name)}{", " + text(one.unit) if one.unit else ""}</th>{cells}'
            f"<td>{sign}{shown(one.difference)}{text(unit)}</td></tr>"
        )
    head = _head(("", f"A: {comparison.a}", f"B: {comparison.b}", "B - A"))
    return f"<table><caption>The better one is bold</caption>{head}<tbody>{''.join(rows)}</tbody></table>"


def _waits(comparison: Comparison, waits: Bars) -> list[str]:
    labels = (comparison.a, comparison.b)
    rows = [(name, shown(a), shown(b)) for name, a, b in zip(waits.names, waits.a, waits.b, strict=True)]
    return [
        bar_chart("waits", "Mean wait by size of the gang, hours", "GPUs", labels, waits),
        _details(_table("Mean wait, hours", ("GPUs", f"A: {labels[0]}", f"B: {labels[1]}"), rows)),
    ]


def _euro(comparison: Comparison) -> str:
    if not comparison.values:
        return "<p>No price was given.</p>"
    rows = [
        (
            _price(value.microeur_per_gpu_hour),
            f"{comparison.points:+.2f}",
            format_eur_short(value.microeur_per_year),
        )
        for value in comparison.values
    ]
    return _table("What the difference is worth", ("Price", "Points", "A year"), rows)


def _energy(comparison: Comparison) -> str:
    energy = comparison.energy
    if energy is None:
        return ""
    rows = [
        ("kWh a year", f"{energy.a_kwh_per_year:,}", f"{energy.b_kwh_per_year:,}"),
        (
            "Wh a useful GPU-hour",
            shown(energy.a_wh_per_useful_gpu_hour),
            shown(energy.b_wh_per_useful_gpu_hour),
        ),
    ]
    bars = Bars(("GPUs, a year",), (energy.a_kwh_per_year / 1_000,), (energy.b_kwh_per_year / 1_000,))
    chart = bar_chart("energy", "Modelled energy, MWh a year", "", (comparison.a, comparison.b), bars)
    caption = f"Modelled: a GPU draws {energy.idle_watts} W idle and {energy.load_watts} W under load"
    return chart + _table(caption, ("", f"A: {comparison.a}", f"B: {comparison.b}"), rows)


def _method(comparison: Comparison) -> str:
    used = _USED[comparison.study]
    return (
        f"<p>Utilisation is {used}. Euro a year = points / 100 x {comparison.gpus:,} GPUs x price x "
        f"{HOURS_PER_YEAR:,} h: it holds if what is used more is sold at that price, and it says nothing about the price of "
        "waiting. Simulated; nothing was measured on hardware.</p>"
    )


def _cell(values: Sequence[float], index: int) -> str:
    return shown(values[index]) if index < len(values) else ""


def _details(table: str) -> str:
    return f"<details><summary>The same as a table</summary>{table}</details>"


def _head(names: Iterable[str]) -> str:
    return "<thead><tr>" + "".join(f'<th scope="col">{text(name)}</th>' for name in names) + "</tr></thead>"


def _table(caption: str, names: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table><caption>{text(caption)}</caption>{_head(names)}<tbody>{lines}</tbody></table>"
