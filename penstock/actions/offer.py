"""Offers: operators make, edit and retire them; tenants see those they may order, with form and price."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base.errors import ConflictError, InvalidInputError, PenstockError, StaleGenerationError
from penstock.catalog.base import Compiled, Kind, Known, check_fixed, editable_form, merge_order
from penstock.catalog.kinds import KINDS, kind_named
from penstock.catalog.known import known_for, priced, read_known
from penstock.domain.price import PriceBook
from penstock.rating.estimate import estimate
from penstock.rating.rate import UnpricedUsageError
from penstock.store import offer as offer_store
from penstock.store import price_book as price_book_store
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row

EDITABLE = frozenset({"title", "description", "fixed", "eligible_tenants", "state"})


@dataclass(frozen=True, slots=True)
class NewOffer:
    """An offer as it was asked for; ``eligible_tenants`` None: everybody may order it."""

    name: str
    kind: str
    title: str
    description: str
    fixed: Mapping[str, Any]
    eligible_tenants: Collection[str] | None


def create(context: Context, actor: Actor, asked: NewOffer) -> dict[str, Any]:
    """Make an offer; raises InvalidInputError naming a field that cannot be, ConflictError if the name is taken."""
    offer_id = context.new_id("offer")
    try:
        with change(context, actor, "offer.create", offer_id) as made:
            actor.require("offer:write")
            kind = kind_named(asked.kind)
            row = {
                "id": offer_id,
                "name": asked.name,
                "kind": asked.kind,
                "title": asked.title,
                "description": asked.description,
                "form": dict(kind.form),
                "fixed": dict(asked.fixed),
                "eligible_tenants": _tenants(made.connection, asked.eligible_tenants),
                "state": "active",
                "created_at": context.clock.now(),
            }
            _check(context, made.connection, kind, asked.fixed)
            offer_store.insert(made.connection, row)
            detail = {"name": asked.name, "kind": asked.kind, "fixed": dict(asked.fixed)}
            made.done("offer.created", offer_id, tenant_id=None, detail=detail)
            return _shown(context, made.connection, [_existing(made.connection, offer_id)])[0]
    except IntegrityError as error:
        raise ConflictError(
            f"there is an offer '{asked.name}' already (perhaps a retired one); choose another name",
            field="name",
        ) from error


def edit(
    context: Context, actor: Actor, offer_id: str, *, generation: int, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Change fields of ``EDITABLE``; services that were ordered keep what they have.

    Raises StaleGenerationError if the offer was changed since ``generation`` was read.
    """
    with change(context, actor, "offer.edit", offer_id) as made:
        actor.require("offer:write")
        row = _existing(made.connection, offer_id)
        values = {name: value for name, value in changes.items() if name in EDITABLE}
        if "fixed" in values:
            _check(context, made.connection, kind_named(row["kind"]), values["fixed"])
        if "eligible_tenants" in values:
            values["eligible_tenants"] = _tenants(made.connection, values["eligible_tenants"])
        if not offer_store.update(made.connection, offer_id, generation, values):
            raise StaleGenerationError(
                f"the offer was changed meanwhile (generation {row['generation']}, not {generation}); "
                "look at it again and repeat the change",
                field="generation",
                data={"generation": row["generation"]},
            )
        made.done("offer.changed", offer_id, tenant_id=None, detail={"name": row["name"], **values})
        return _shown(context, made.connection, [_existing(made.connection, offer_id)])[0]


def list_page(
    context: Context,
    actor: Actor,
    *,
    name: str | None,
    kind: str | None,
    state: str | None,
    after: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return up to ``limit`` offers that the caller may order; all, retired ones too, for the factory's own."""
    _require_read(actor)
    with context.db.transaction(actor.scope) as connection:
        rows = offer_store.page(
            connection, tenant_id=actor.tenant_id, name=name, kind=kind, state=state, after=after, limit=limit
        )
        return _shown(context, connection, rows)


def show(context: Context, actor: Actor, offer_id: str) -> dict[str, Any]:
    """Return one offer; NotFoundError if it is not for the caller's tenant."""
    _require_read(actor)
    with context.db.transaction(actor.scope) as connection:
        row = _existing(connection, offer_id)
        eligible = row["eligible_tenants"]
        if actor.tenant_id is not None and eligible is not None and actor.tenant_id not in eligible:
            raise not_found("offer", offer_id)
        return _shown(context, connection, [row])[0]


def _require_read(actor: Actor) -> None:
    if not any(
        actor.may("offer:read", actor.tenant_id, place) for place in (None, *(actor.project_ids or ()))
    ):
        actor.require("offer:read", actor.tenant_id)


def _existing(connection: Connection, offer_id: str) -> Row:
    row = offer_store.get(connection, offer_id)
    if row is None:
        raise not_found("offer", offer_id)
    return row


def _tenants(connection: Connection, asked: Collection[str] | None) -> list[str] | None:
    if asked is None:
        return None
    for tenant_id in asked:
        if tenant_store.get(connection, tenant_id) is None:
            raise InvalidInputError(f"no tenant '{tenant_id}'", field="eligible_tenants")
    return sorted(set(asked))


def _check(context: Context, connection: Connection, kind: Kind, fixed: Mapping[str, Any]) -> None:
    """Raise InvalidInputError if ``fixed`` is not of the kind's form or nobody could ever order it."""
    check_fixed(kind.form, fixed)
    open_fields = [field for field in kind.form.get("required", ()) if field not in fixed]
    if any("default" not in kind.form["properties"][field] for field in open_fields):
        return  # what is missing decides whether it can be ordered
    try:
        known = read_known(connection, context.device_classes)
        spec = merge_order(kind.form, fixed, {})
        kind.compile(spec, known_for(connection, known, [(spec, price_book_store.latest_id(connection))])[0])
    except InvalidInputError as error:
        field = (error.field or "fixed").replace("spec", "fixed", 1)
        raise InvalidInputError(error.sentence, field=field) from error


def _shown(context: Context, connection: Connection, rows: list[Row]) -> list[dict[str, Any]]:
    """Return offers with the form that a person fills in and the prices that apply to an order now."""
    if not rows:
        return []
    book_id = price_book_store.latest_id(connection)
    book = price_book_store.read(connection, [book_id])[book_id] if book_id else None
    known = read_known(connection, context.device_classes)
    known = known if book is None else priced(known, book)
    return [
        {
            **row,
            "form": editable_form(KINDS[row["kind"]].form, row["fixed"]),
            "price": None if book is None else _price(KINDS[row["kind"]], row["fixed"], known, book),
        }
        for row in rows
    ]


def _price(kind: Kind, fixed: Mapping[str, Any], known: Known, book: PriceBook) -> dict[str, Any]:
    """Return the price of one unit of an offer; where the order decides what it is, the prices to choose from."""
    compiled = _as_offered(kind, fixed, known)
    prices = [price for price in book.prices if price.meter in kind.meters]
    hourly: int | None = None
    if compiled is not None:
        items = {order.device_class for order in compiled.gpu_orders} | set(compiled.priced_models)
        if items:
            found = (book.find(meter, item) for meter in kind.meters for item in sorted(items))
            prices = [price for price in found if price is not None]
        hourly = _hourly(compiled, book)
    return {
        "price_book_version": book.version,
        "microeur_per_hour": hourly,
        "prices": sorted(set(prices), key=lambda price: (kind.meters.index(price.meter), price.item)),
    }


def _as_offered(kind: Kind, fixed: Mapping[str, Any], known: Known) -> Compiled | None:
    """Return what an order with nothing filled in asks for, None if something must be filled in."""
    try:
        return kind.compile(merge_order(kind.form, fixed, {}), known)
    except PenstockError:
        return None


def _hourly(compiled: Compiled, book: PriceBook) -> int | None:
    if not compiled.gpu_orders:
        return None
    try:
        return estimate(book, compiled.gpu_orders).microeur_per_hour
    except UnpricedUsageError:
        return None
