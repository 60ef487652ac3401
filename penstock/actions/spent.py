"""What limits of a day and of a month have used up already, from the books: gateways count on from there.

A limit that is set at noon counts the morning, and several machines with gateways hold one limit together, apart from what
was used since the last usage was delivered.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.context import Actor, Context
from penstock.base.errors import RateLimitedError
from penstock.domain.invoice import period_of
from penstock.domain.price import Meter
from penstock.domain.quota import month_start
from penstock.rating.charge import PICOEUR_PER_MICROEUR, charge_for
from penstock.store import price_book as price_book_store
from penstock.store import rate_limit as rate_limit_store

Terms = Mapping[str, Mapping[str, Any]]
_PERIODS = ("tokens_per_day", "microeur_per_month")


def require_money(
    context: Context, connection: Connection, actor: Actor, tenant_id: str, project_id: str
) -> None:
    """Raise RateLimitedError if the actor's key, the project or the tenant has no money of the month left.

    Costs one small read where none of them has such a limit.
    """
    subjects = [tenant_id, project_id, *([] if actor.key_id is None else [actor.key_id])]
    limited = {
        subject_id: terms
        for subject_id, terms in rate_limit_store.by_subject(connection, subjects).items()
        if "microeur_per_month" in terms
    }
    now = context.clock.now()
    for terms in with_spent(connection, limited, now).values():
        most = terms["microeur_per_month"]
        if terms["spent"]["microeur"] >= most:
            left = period_of(now).end - now
            raise RateLimitedError(
                f"the {terms['subject']}'s money of the month is spent ({most} micro-euro); wait for the next month, "
                "or ask for a larger limit (`penstock rate-limit set`)",
                data={"retry_after_seconds": math.ceil(left.total_seconds())},
            )


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
        charge = charge_for(
            books[row["price_book_id"]], row["service_id"], Meter(row["meter"]), row["item"], row["quantity"]
        )
        for subject_id in (row["tenant_id"], row["project_id"], row["service_id"], row["key_id"]):
            if subject_id in used:
                used[subject_id][0] += row["tokens_today"]
                used[subject_id][1] += 0 if charge is None else charge.price_picoeur
    for subject_id, (tokens, cost) in used.items():
        found[subject_id]["spent"] = {
            "day": utc.toordinal(),
            "tokens": tokens,
            "month": utc.year * 12 + utc.month,
            "microeur": -(-cost // PICOEUR_PER_MICROEUR),
        }
    return found
