"""Templates: one environment, every value escaped, an unknown name is an error and not an empty text."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from penstock import __version__
from penstock.console import charts, formats, timeline
from penstock.console.assets import asset_url
from penstock.console.menu import may_see, menu_for
from penstock.console.secure import BASE


@cache
def environment() -> Environment:
    """Return the one environment; templates are compiled once for each process."""
    made = Environment(
        loader=PackageLoader("penstock.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    filters: dict[str, Any] = dict(formats.FILTERS)
    for name, change in filters.items():
        made.filters[name] = change
    shared: dict[str, Any] = {
        "base": BASE,
        "version": __version__,
        "asset": asset_url,
        "menu_for": menu_for,
        "may_see": may_see,
        "meter": charts.meter,
        "progress": charts.progress,
        "shares": charts.shares,
        "spark": charts.spark,
        "share_bar": charts.share_bar,
        "pipe": charts.pipe,
        "cal_axis": timeline.axis,
        "cal_bar": timeline.bar,
        "cal_lane": timeline.lane,
    }
    for name, thing in shared.items():
        made.globals[name] = thing
    return made


def render(template: str, **values: Any) -> str:
    """Return a template filled with ``values``."""
    return environment().get_template(template).render(values)
