"""A bar chart of the ROI report as one self-contained SVG text: no script, no font or file from elsewhere.

It can be read by eye in light and dark (colours follow the reader's setting), without colour (each bar
carries its number, each price its own outline) and by a screen reader (title and description say it all).
"""

import re
from html import escape

from penstock.base.units import MICROEUR_PER_EUR, format_eur
from penstock.rating.roi import POINTS, Roi, format_eur_short

WIDTH, HEIGHT = 860, 500
LEFT, RIGHT, TOP, BOTTOM = 96, 24, 96, 112  # above the plot a standing number fits, below it axis and legend
LABEL_CHARACTERS_MAX = 24

# One colour per price on white and on near-black; each has at least 3:1 contrast to its background
# (WCAG 2.2, 1.4.11 non-text contrast). The tests compute it.
LIGHT_BACKGROUND, LIGHT_INK = "#ffffff", "#1b1f24"
DARK_BACKGROUND, DARK_INK = "#14171b", "#e8eaed"
LIGHT_COLOURS = ("#1f5fa8", "#b3541e", "#2b7a4b", "#7a3fa0", "#8a6d00", "#a8324a")
DARK_COLOURS = ("#6fb1f5", "#f2a06a", "#6fce97", "#c79bf0", "#dcc14a", "#f0859a")
DASHES = ("none", "6 3", "2 2", "8 3 2 3", "1 3", "10 4")


def roi_chart_svg(roi: Roi, chart_id: str = "roi") -> str:
    """Return the value of +1, +2 and +3 points per year at each price as SVG 1.1 text.

    ``chart_id`` prefixes every id and class, so that several charts fit into one page; it must be letters,
    digits and hyphens with a letter first, else ValueError.
    """
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", chart_id) is None:
        raise ValueError("a chart id is letters, digits and hyphens, a letter first")
    title = "Value of more effective utilisation, in euro per year"
    if roi.simulated_ppm:
        title += " (simulated GPUs included)"
    top_microeur = max((v.microeur_per_year for p in roi.prices for v in p.points), default=0)
    step = nice_step(top_microeur)
    ticks = max(1, -(-top_microeur // step))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    named = f'role="img" aria-labelledby="{chart_id}-title {chart_id}-desc"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {named} class="{chart_id}">',
        f'<title id="{chart_id}-title">{_text(title)}</title>',
        f'<desc id="{chart_id}-desc">{_text(_description(roi))}</desc>',
        f"<style>{_style(chart_id)}</style>",
        f'<rect class="{chart_id}-back" x="0" y="0" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="{chart_id}-head" x="{LEFT}" y="30">{_text(title)}</text>',
        *_legend(roi, chart_id),
        *_axes(chart_id, step, ticks),
        *_bars(roi, chart_id, step * ticks),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def nice_step(top_microeur: int) -> int:
    """Return the distance of grid lines in micro-euro: 1, 2 or 5 x 10^n, for 3 to 6 lines up to ``top_microeur``."""
    step = 1
    while top_microeur > 5 * step:
        digit = int(str(step)[0])
        step = step * 5 // 2 if digit == 2 else step * 2
    return step


def _text(text: str) -> str:
    """Return text safe inside an element or attribute; characters that XML 1.0 forbids become U+FFFD."""
    allowed = re.sub(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    return escape(allowed, quote=True)


def _short(label: str) -> str:
    return label if len(label) <= LABEL_CHARACTERS_MAX else label[: LABEL_CHARACTERS_MAX - 1] + "\u2026"


def _description(roi: Roi) -> str:
    values = "; ".join(
        f"at {p.label}: "
        + ", ".join(
            f"+{v.points} {_points(v.points)} {format_eur_short(v.microeur_per_year)}" for v in p.points
        )
        for p in roi.prices
    )
    return f"Bar chart, one group of bars per gain in percentage points, one bar per price. {values}."


def _points(points: int) -> str:
    return "point" if points == 1 else "points"


def _style(chart_id: str) -> str:
    def rules(background: str, ink: str, colours: tuple[str, ...]) -> str:
        bars = "".join(
            f".{chart_id}-p{i}{{fill:{colour};stroke:{ink};stroke-dasharray:{DASHES[i]}}}"
            for i, colour in enumerate(colours)
        )
        return (
            f".{chart_id}-back{{fill:{background}}}.{chart_id} text{{fill:{ink}}}"
            f".{chart_id}-grid{{stroke:{ink};stroke-opacity:.25}}.{chart_id}-axis{{stroke:{ink}}}{bars}"
        )

    return (
        f".{chart_id} text{{font:14px system-ui,sans-serif}}.{chart_id} .{chart_id}-head{{font-size:18px;font-weight:600}}"
        + rules(LIGHT_BACKGROUND, LIGHT_INK, LIGHT_COLOURS)
        + "@media (prefers-color-scheme:dark){"
        + rules(DARK_BACKGROUND, DARK_INK, DARK_COLOURS)
        + "}"
    )


def _legend(roi: Roi, chart_id: str) -> list[str]:
    parts: list[str] = []
    for index, price in enumerate(roi.prices):
        x = LEFT + index % 3 * 240
        y = HEIGHT - 44 + index // 3 * 20
        parts.append(
            f'<rect class="{chart_id}-p{index}" x="{x}" y="{y}" width="14" height="14"/>'
            f'<text x="{x + 22}" y="{y + 12}">{_text(_short(price.label))}</text>'
        )
    return parts


def _axes(chart_id: str, step: int, ticks: int) -> list[str]:
    bottom, height = HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM
    parts: list[str] = []
    for tick in range(ticks + 1):
        y = bottom - height * tick // ticks
        kind = "axis" if tick == 0 else "grid"
        parts.append(
            f'<line class="{chart_id}-{kind}" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
            f'<text x="{LEFT - 8}" y="{y + 5}" text-anchor="end">{_text(_tick(step, tick))}</text>'
        )
    middle = TOP + height // 2
    parts.append(
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
        f"{_text(_unit(step) + ' per year')}</text>"
    )
    parts.append(
        f'<text x="{LEFT + (WIDTH - LEFT - RIGHT) // 2}" y="{bottom + 50}" text-anchor="middle">'
        "gain in effective utilisation, percentage points</text>"
    )
    return parts


def _in_millions(step: int) -> bool:
    return step >= 100_000 * MICROEUR_PER_EUR


def _unit(step: int) -> str:
    return "million EUR" if _in_millions(step) else "EUR"


def _tick(step: int, tick: int) -> str:
    value = step * tick
    if _in_millions(step):
        return format_eur(value // 1_000_000, 1).removesuffix(" EUR")
    return format_eur(value, 0 if step >= MICROEUR_PER_EUR else 6).removesuffix(" EUR")


def _bars(roi: Roi, chart_id: str, top_microeur: int) -> list[str]:
    bottom, height = HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM
    group_width = (WIDTH - LEFT - RIGHT) // len(POINTS)
    bar_width = (group_width - 32) // len(roi.prices)
    parts: list[str] = []
    for group, points in enumerate(POINTS):
        x0 = LEFT + group * group_width + 16
        for index, price in enumerate(roi.prices):
            value = price.points[group].microeur_per_year
            tall = height * value // top_microeur
            x, y = x0 + index * bar_width, bottom - tall
            parts.append(
                f'<rect class="{chart_id}-p{index}" x="{x + 2}" y="{y}" width="{bar_width - 4}" height="{tall}"/>'
                + _number(value, x + bar_width // 2, y, bar_width)
            )
        parts.append(
            f'<text x="{LEFT + group * group_width + group_width // 2}" y="{bottom + 22}" text-anchor="middle">'
            f"+{points} {_points(points)}</text>"
        )
    return parts


def _number(microeur: int, x: int, y: int, bar_width: int) -> str:
    """Return the bar's number: above it, or standing where bars are too narrow for a lying one."""
    text = _text(format_eur_short(microeur).removesuffix(" EUR"))
    if bar_width >= 72:
        return f'<text x="{x}" y="{y - 6}" text-anchor="middle">{text}</text>'
    return f'<text x="{x + 5}" y="{y - 6}" transform="rotate(-90 {x + 5} {y - 6})">{text}</text>'
