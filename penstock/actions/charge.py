"""The books of calls that the control plane makes for somebody, and what each answer is charged for them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.context import Actor, Context
from penstock.domain.price import Meter, PriceBook
from penstock.rating.charge import Charge, charge_for, rounded_microeur, total_picoeur
from penstock.store import endpoint as endpoint_store
from penstock.store import price_book as price_book_store
from penstock.store.rows import Row

_BOOKS_KEPT = 64


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call of an endpoint used, its record in the books, and its charges; None: something has no price."""

    record_id: str
    service_id: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    charges: tuple[Charge, ...] | None

    @property
    def shown(self) -> dict[str, Any]:
        """Return it as answers show it; the price is rounded by itself."""
        price = None if self.charges is None else rounded_microeur(total_picoeur(self.charges))
        return {
            "record_id": self.record_id,
            "service_id": self.service_id,
            "model": self.model,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "price_microeur": price,
        }


def book_call(
    context: Context,
    connection: Connection,
    actor: Actor,
    base: Row,
    replica: Row,
    *,
    prompt_tokens: int,
    completion_tokens: int,
    started: datetime,
    estimated: bool = False,
) -> Cost:
    """Write a call of a replica for a knowledge base into the books; return it with its charges."""
    record_id = endpoint_store.record_call(
        connection,
        replica,
        what=f"{base['id']} {os.urandom(16).hex()}",
        tenant_id=base["tenant_id"],
        principal_id=actor.principal_id,
        key=actor.key_id or base["id"],
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        started_at=started,
        ended_at=context.clock.now(),
        estimated=estimated,
    )
    model, service_id = str(replica["catalogue_model"]), str(replica["service_id"])
    charges = charges_of(
        price_book(context, connection, replica["price_book_id"]),
        service_id,
        model,
        {Meter.INPUT_TOKENS: prompt_tokens, Meter.OUTPUT_TOKENS: completion_tokens},
    )
    return Cost(record_id, service_id, model, prompt_tokens, completion_tokens, charges)


def charges_of(
    book: PriceBook | None, service_id: str, item: str, quantities: dict[Meter, int]
) -> tuple[Charge, ...] | None:
    """Return the charges for quantities by meter, those of zero left out; None if one has no price."""
    charges: list[Charge] = []
    for meter, quantity in quantities.items():
        charge = None if book is None else charge_for(book, service_id, meter, item, quantity)
        if charge is not None and quantity:
            charges.append(charge)
        elif charge is None and quantity:
            return None
    return tuple(charges)


def charged(parts: Iterable[tuple[Charge, ...] | None]) -> dict[str, Any]:
    """Return what an answer says of its price: ``charges``, their exact sum, and the same in whole micro-euro."""
    known = list(parts)
    charges = [charge for part in known if part is not None for charge in part]
    picoeur = None if None in known else total_picoeur(charges)
    return {
        "charges": [shown(charge) for charge in charges],
        "price_picoeur": picoeur,
        "price_microeur": None if picoeur is None else rounded_microeur(picoeur),
    }


def shown(charge: Charge) -> dict[str, Any]:
    """Return a charge as answers show it."""
    return {
        "service_id": charge.service_id,
        "meter": charge.meter.value,
        "item": charge.item,
        "quantity": charge.quantity,
        "quantity_per_unit": charge.quantity_per_unit,
        "microeur_per_unit": charge.microeur_per_unit,
        "price_picoeur": charge.price_picoeur,
    }


def price_book(context: Context, connection: Connection, price_book_id: str | None) -> PriceBook | None:
    """Return a price book, from memory where it was read before: a version never changes."""
    if price_book_id is None:
        return None
    kept = context.price_books
    if price_book_id not in kept:
        if len(kept) >= _BOOKS_KEPT:
            kept.clear()
        kept.update(price_book_store.read(connection, [price_book_id]))
    return kept.get(price_book_id)
