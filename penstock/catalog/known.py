"""Reads what orders are compiled against: device classes and models."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Connection

from penstock.catalog.base import Known, ModelFacts
from penstock.domain.device import DeviceClass
from penstock.domain.price import Meter, PriceBook
from penstock.drivers.ctranslate2.checkpoint import model_reference
from penstock.store import model as model_store
from penstock.store import price_book as price_book_store
from penstock.store import weights as weights_store


def read_known(connection: Connection, classes: Mapping[str, DeviceClass]) -> Known:
    """Return the device classes and every model that may be ordered."""
    return known_from(classes, model_store.active(connection))


def known_from(classes: Mapping[str, DeviceClass], model_rows: Iterable[Mapping[str, Any]]) -> Known:
    """Return the same from model rows that were read already.

    A model that ships in the package is named as such, because other machines have the package elsewhere.
    """
    models = {
        row["name"]: ModelFacts(
            row["name"],
            model_reference(row["folder"]),
            row["size_bytes"],
            tuple(row["engines"]),
            row.get("kind", "generation"),
            row.get("base_model"),
            _artefact(row),
        )
        for row in model_rows
    }
    return Known(dict(classes), models)  # a copy: operators may add classes meanwhile


def _artefact(row: Mapping[str, Any]) -> str | None:
    """Return what names a model's files for nodes that fetch them; None where every node has them, or must."""
    ships = model_reference(row["folder"]) != row["folder"]
    return str(row["sha256"]) if row.get("files") and not ships else None


def asks_prices(spec: Mapping[str, Any]) -> bool:
    """Tell whether prices decide what an order is compiled to: its class is open, or it has a price cap."""
    return spec.get("device_class", "") is None or spec.get("microeur_per_hour_max") is not None


def priced(known: Known, book: PriceBook) -> Known:
    """Return what is known with the prices of a book: micro-euro per GPU-hour of each class that has one."""
    found = {name: book.find(Meter.GPU_HOURS, name) for name in known.device_classes}
    prices = {name: price.microeur_per_unit for name, price in found.items() if price is not None}
    return replace(known, prices=prices)


def known_for(
    connection: Connection, known: Known, orders: Sequence[tuple[Mapping[str, Any], str | None]]
) -> list[Known]:
    """Return what each order (spec, price book id) is compiled against; prices are read where they decide.

    Of the models that are ordered it is known which nodes hold their weights.
    """
    known = _with_holders(connection, known, {spec.get("model") for spec, _ in orders})
    ids = {book_id for spec, book_id in orders if book_id is not None and asks_prices(spec)}
    books = price_book_store.read(connection, sorted(ids)) if ids else {}
    with_prices = {book_id: priced(known, book) for book_id, book in books.items()}
    return [with_prices.get(book_id or "", known) if asks_prices(spec) else known for spec, book_id in orders]


def _with_holders(connection: Connection, known: Known, names: Collection[object]) -> Known:
    """Note of the named models which nodes hold their weights."""
    asked = [known.models[name] for name in names if isinstance(name, str) and name in known.models]
    held = weights_store.holders(connection, {one.sha256 for one in asked if one.sha256 is not None})
    models = {
        one.name: replace(one, held_by=held[one.sha256])
        for one in asked
        if one.sha256 is not None and one.sha256 in held
    }
    return replace(known, models={**known.models, **models}) if models else known
