"""A page of a list: one row more than is shown is asked for, and says whether there is a next page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.base import limits
from penstock.console.edge import Visit
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class Paged:
    """What one page shows: ``after`` is where it begins, ``more`` where the next one does, None if there is none."""

    rows: Sequence[Row]
    after: str | None
    more: str | None


def paged(visit: Visit, ask: Callable[[str | None, int], Sequence[Row]], key: str = "id") -> Paged:
    """Ask for the page that the address names; ``ask`` gets where to begin and how many rows at most."""
    after = visit.query("after") or None
    rows = ask(after, limits.PAGE_DEFAULT + 1)
    shown = rows[: limits.PAGE_DEFAULT]
    return Paged(shown, after, shown[-1][key] if len(rows) > len(shown) else None)
