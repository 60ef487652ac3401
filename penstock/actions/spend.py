"""What a caller's services cost: so far this month, per hour now, and by the end of the month if nothing changes."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from penstock.actions import usage as usage_actions
from penstock.actions.context import Actor, Context
from penstock.actions.scope import tenant_for_list
from penstock.actions.usage import UsageAsked
from penstock.base.units import div_round_half_even
from penstock.domain.invoice import period_of
from penstock.domain.price import COUNTED, Meter
from penstock.store import price_book as price_book_store
from penstock.store import usage as usage_store

_US_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Spend:
    """Amounts in micro-euro.

    ``microeur_per_hour`` is that of the devices, machines and volumes held now, by service in ``by_service``; tokens are charged when
    they are used and are in ``month_microeur`` alone. ``month_end_microeur`` adds the hours that are left at
    today's rate. ``has_unpriced``: something has no price, so that all of these are too small.
    """

    start: datetime
    end: datetime
    month_microeur: int
    microeur_per_hour: int
    month_end_microeur: int
    simulated_microeur: int
    by_service: dict[str, int]
    has_unpriced: bool


@dataclass(frozen=True, slots=True)
class Rates:
    """Micro-euro per hour of the devices and machines held now, by service; ``has_unpriced``: some have no price."""

    by_service: dict[str, int]
    has_unpriced: bool


def rates(context: Context, actor: Actor) -> Rates:
    """Return what is charged by the hour now; ForbiddenError without ``usage:read``."""
    tenant_id = tenant_for_list(actor, "usage:read", None)
    with context.db.transaction(actor.scope) as connection:
        held = usage_store.held_now(connection, tenant_id, actor.project_ids)
        machines = usage_store.machines_now(connection, tenant_id, actor.project_ids)
        books = price_book_store.read(connection, sorted({row.price_book_id for row in (*held, *machines)}))
    by_service: dict[str, int] = {}
    unpriced = False
    for row in held:
        price = books[row.price_book_id].find(
            Meter.RESERVED_GPU_HOURS if row.reserved else Meter.GPU_HOURS, row.device_class
        )
        if price is None:
            unpriced = True
            continue
        amount = div_round_half_even(row.slices * price.microeur_per_unit, row.slices_of_device)
        by_service[row.service_id] = by_service.get(row.service_id, 0) + amount
    for one in machines:
        price = books[one.price_book_id].find(one.meter, one.item)
        if price is not None:  # a book without prices of machines charges nothing for them
            amount = div_round_half_even(one.quantity_per_hour * price.microeur_per_unit, COUNTED[one.meter])
            by_service[one.service_id] = by_service.get(one.service_id, 0) + amount
    return Rates(by_service, unpriced)


def show(context: Context, actor: Actor) -> Spend:
    """Return the spend of the running month, of what the caller may see; ForbiddenError without ``usage:read``."""
    now = context.clock.now()
    so_far = usage_actions.show(context, actor, UsageAsked())
    held = rates(context, actor)
    rate = sum(held.by_service.values())
    period = period_of(now)
    left_us = (period.end - now) // timedelta(microseconds=1)
    month: int = so_far["total_microeur"]
    return Spend(
        start=period.start,
        end=period.end,
        month_microeur=month,
        microeur_per_hour=rate,
        month_end_microeur=month + div_round_half_even(rate * left_us, _US_PER_HOUR),
        simulated_microeur=so_far["simulated_microeur"],
        by_service=held.by_service,
        has_unpriced=held.has_unpriced or bool(so_far["unpriced"]),
    )
