"""What limits of a day and of a month have used up already, from the books: gateways count on from there.

A limit that is set at noon counts the morning, and several machines with gateways hold one limit together, apart from what
was used since the last usage was delivered.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.domain.price import Meter
from penstock.domain.quota import month_start
from penstock.store import price_book as price_book_store
from penstock.store import rate_limit as rate_limit_store

Terms = Mapping[str, Mapping[str, Any]]
_PERIODS = ("tokens_per_day", "microeur_per_month")
_MILLION = 1_000_000


def with_spent(connection: Connection, limited: Terms, now: datetime) -> dict[str, dict[str, Any]]:
    """Return limits by subject id; those of a day or month with ``spent``: day, tokens, month, microeur."""
    found = {subject_id: dict(terms) for subject_id, terms in limited.items()}
    periodic = {id_: terms for id_, terms in found.items() if any(name in terms for name in _PERIODS)}
    if not periodic:
        return found
    utc = now.astimezone(UTC)
    day = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    tenants = sorted({terms["tenant_id"] for terms in periodic.values()})
    rows = rate_limit_store.spent(connection, tenants, day, month_start(now))
    books = price_book_store.read(connection, sorted({row["price_book_id"] for row in rows}))
    used = {id_: [0, 0] for id_ in periodic}
    for row in rows:
        cost = 0
        for name, meter in (("prompt", Meter.INPUT_TOKENS), ("completion", Meter.OUTPUT_TOKENS)):
            price = books[row["price_book_id"]].find(meter, row["model"])
            cost += row[name] * (0 if price is None else price.microeur_per_unit)
        for subject_id in (row["tenant_id"], row["project_id"], row["service_id"], row["key_id"]):
            if subject_id in used:
                used[subject_id][0] += row["today"]
                used[subject_id][1] += cost
    for subject_id, (tokens, cost) in used.items():
        found[subject_id]["spent"] = {
            "day": utc.toordinal(),
            "tokens": tokens,
            "month": utc.year * 12 + utc.month,
            "microeur": -(-cost // _MILLION),
        }
    return found
