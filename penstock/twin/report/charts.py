"""Charts of the report as self-contained SVG: no script, no font or file from elsewhere.

They can be read in light and dark (colours follow the reader's setting), without colour (B is dashed or
hatched, bars carry their number) and by a screen reader (title and description). The page has the same numbers as
tables.
"""

import re
from collections.abc import Sequence
from html import escape

from penstock.rating.chart import (
    DARK_BACKGROUND,
    DARK_COLOURS,
    DARK_INK,
    LIGHT_BACKGROUND,
    LIGHT_COLOURS,
    LIGHT_INK,
)
from penstock.twin.report.comparison import Bars, Line

WIDTH, HEIGHT = 860, 340
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 64, 56
_LABEL_CHARACTERS_MAX = 32

STYLE = (
    ".chart text{font:14px system-ui,sans-serif;fill:var(--ink)}.chart .head{font-size:17px;font-weight:600}"
    ".chart .grid{stroke:var(--ink);stroke-opacity:.2}.chart .axis{stroke:var(--ink)}"
    ".chart .line{fill:none;stroke-width:2}.chart .a{stroke:var(--a)}"
    ".chart .b{stroke:var(--b);stroke-dasharray:7 3}.chart .bar-a{fill:var(--a)}.chart .bar-b{fill:url(#hatch)}"
    "#hatch rect{fill:var(--b)}#hatch path{stroke:var(--ground);stroke-width:2}"
)
COLOURS = (
    f":root{{color-scheme:light dark;--ground:{LIGHT_BACKGROUND};--ink:{LIGHT_INK};--a:{LIGHT_COLOURS[0]};"
    f"--b:{LIGHT_COLOURS[1]}}}@media (prefers-color-scheme:dark){{:root{{--ground:{DARK_BACKGROUND};--ink:{DARK_INK};"
    f"--a:{DARK_COLOURS[0]};--b:{DARK_COLOURS[1]}}}}}"
)
HATCH = (
    '<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs><pattern id="hatch" width="8" '
    'height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="8" height="8"/>'
    '<path d="M0 0V8"/></pattern></defs></svg>'
)


def text(value: object) -> str:
    """Return text safe inside an element or attribute; characters that XML 1.0 forbids become U+FFFD."""
    allowed = re.sub(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(value))
    return escape(allowed, quote=True)


def shown(value: float) -> str:
    """Return a figure as the page writes it: thousands apart, and no more digits than it is worth."""
    digits = 0 if abs(value) >= 1_000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}"


def nice_top(largest: float) -> tuple[float, float]:
    """Return the top of an axis that holds ``largest`` and the distance of its grid lines: 1, 2 or 5 x 10^n."""
    if largest <= 0:
        return 1.0, 0.25
    step = 10.0 ** (len(str(int(largest))) - 1) if largest >= 1 else 0.0001
    while largest > 5 * step:
        step *= 2 if str(f"{step:.0e}")[0] in "15" else 2.5
    while largest <= 2 * step:
        step /= 2 if str(f"{step:.0e}")[0] in "12" else 2.5
    lines = int(largest / step) + (largest % step > 0)
    return step * max(1, lines), step


def line_chart(name: str, title: str, x_title: str, lines: tuple[Line, Line]) -> str:
    """Return two lines over a common axis; ``name`` prefixes the ids."""
    x_top = max(max(line.x) for line in lines) or 1.0
    y_top, y_step = nice_top(max(max(line.y) for line in lines))
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = _frame(
        name, title, _spoken(lines), y_top, y_step, tuple(line.label for line in lines), bars=False
    )
    x_step = nice_top(x_top)[1]
    for tick in range(int(x_top / x_step) + 1):
        x = LEFT + wide * tick * x_step / x_top
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{shown(tick * x_step)}</text>'
        )
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 12}" text-anchor="middle">{text(x_title)}</text>')
    for which, line in zip("ab", lines, strict=True):
        points = " ".join(
            f"{LEFT + wide * x / x_top:.1f},{TOP + tall * (1 - y / y_top):.1f}"
            for x, y in zip(line.x, line.y, strict=True)
        )
        parts.append(f'<polyline class="line {which}" points="{points}"/>')
    return "\n".join([*parts, "</svg>"])


def bar_chart(name: str, title: str, x_title: str, labels: tuple[str, str], bars: Bars) -> str:
    """Return two bars a group with their numbers above; ``name`` prefixes the ids."""
    y_top, y_step = nice_top(max((*bars.a, *bars.b)))
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    group = wide / len(bars.names)
    width = min(70.0, group / 2 - 8)
    rows = zip(bars.names, bars.a, bars.b, strict=True)
    spoken = "; ".join(f"{one}: {labels[0]} {shown(a)}, {labels[1]} {shown(b)}" for one, a, b in rows)
    parts = _frame(name, title, f"Two bars a group. {spoken}.", y_top, y_step, labels, bars=True)
    for index, one in enumerate(bars.names):
        middle = LEFT + group * (index + 0.5)
        for which, value, x in (("a", bars.a[index], middle - width - 2), ("b", bars.b[index], middle + 2)):
            high = tall * value / y_top
            y = HEIGHT - BOTTOM - high
            parts.append(
                f'<rect class="bar-{which}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{high:.1f}"/>'
                f'<text x="{x + width / 2:.1f}" y="{y - 5:.1f}" text-anchor="middle">{shown(value)}</text>'
            )
        parts.append(
            f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{text(one)}</text>'
        )
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 12}" text-anchor="middle">{text(x_title)}</text>')
    return "\n".join([*parts, "</svg>"])


def _spoken(lines: Sequence[Line]) -> str:
    return "Two lines. " + " ".join(
        f"{line.label}: from {shown(line.y[0])} to {shown(line.y[-1])}, at most {shown(max(line.y))}, "
        f"on average {shown(sum(line.y) / len(line.y))}."
        for line in lines
    )


def _frame(
    name: str, title: str, spoken: str, y_top: float, y_step: float, labels: Sequence[str], *, bars: bool
) -> list[str]:
    """Return the opening, the title, the legend and the horizontal grid."""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    named = f'role="img" aria-labelledby="{name}-title {name}-desc"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size} {named}>',
        f'<title id="{name}-title">{text(title)}</title><desc id="{name}-desc">{text(spoken)}</desc>',
        f'<text class="head" x="{LEFT}" y="22">{text(title)}</text>',
    ]
    for which, label, x in zip("ab", labels, (LEFT, LEFT + 320), strict=True):
        short = (
            label if len(label) <= _LABEL_CHARACTERS_MAX else label[: _LABEL_CHARACTERS_MAX - 1] + "\u2026"
        )
        key = f'<line class="line {which}" x1="{x}" y1="42" x2="{x + 36}" y2="42"/>'
        if bars:
            key = f'<rect class="bar-{which}" x="{x + 18}" y="34" width="18" height="14"/>'
        parts.append(f'{key}<text x="{x + 44}" y="47">{"AB"["ab".index(which)]}: {text(short)}</text>')
    tall = HEIGHT - TOP - BOTTOM
    for tick in range(round(y_top / y_step) + 1):
        y = HEIGHT - BOTTOM - tall * tick * y_step / y_top
        parts.append(
            f'<line class="{"grid" if tick else "axis"}" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{shown(tick * y_step)}</text>'
        )
    return parts
