"""Device classes: rows of data, so that a new accelerator needs no code."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from penstock.domain.device import DeviceClass
from penstock.store.rows import every, one
from penstock.store.schema import device, device_class


def every_class(connection: Connection) -> dict[str, DeviceClass]:
    """Return all device classes by name; there are tens of them."""
    return {
        row["name"]: to_class(row["name"], row["data"])
        for row in every(connection.execute(sa.select(device_class).order_by(device_class.c.name)))
    }


def get(connection: Connection, name: str) -> DeviceClass | None:
    """Return one class, or None."""
    row = one(connection.execute(sa.select(device_class).where(device_class.c.name == name)))
    return None if row is None else to_class(row["name"], row["data"])


def add_missing(connection: Connection, classes: Iterable[DeviceClass]) -> list[str]:
    """Add the classes whose names are not there; what operators changed stays. Return the names added."""
    rows = [{"name": class_.name, "data": to_data(class_)} for class_ in classes]
    if not rows:
        return []
    statement = insert(device_class).on_conflict_do_nothing().returning(device_class.c.name)
    return sorted(connection.execute(statement, rows).scalars())


def put(connection: Connection, class_: DeviceClass) -> None:
    """Add a class or replace what is said of it."""
    statement = insert(device_class).values(name=class_.name, data=to_data(class_))
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"data": statement.excluded.data})
    )


def devices_of(connection: Connection, name: str) -> int:
    """Return how many devices are of a class."""
    query = sa.select(sa.func.count()).select_from(device).where(device.c.device_class == name)
    return int(connection.execute(query).scalar_one())


def to_data(class_: DeviceClass) -> dict[str, Any]:
    """Return the JSON document of a class."""
    return {
        "vendor": class_.vendor,
        "model": class_.model,
        "memory_bytes": class_.memory_bytes,
        "slices": class_.slices,
        "slice_memory_bytes": class_.slice_memory_bytes,
        "power_watts": class_.power_watts,
        "match": list(class_.match),
        "source": class_.source,
        "bf16_tflops": class_.bf16_tflops,
        "interconnect_gb_per_s": class_.interconnect_gb_per_s,
        "idle_watts": class_.idle_watts,
    }


def to_class(name: str, data: dict[str, Any]) -> DeviceClass:
    """Return the class of a row; the inverse of ``to_data``."""
    match: list[str] = data["match"]
    rest: dict[str, Any] = {key: value for key, value in data.items() if key != "match"}
    return DeviceClass(name=name, match=tuple(match), **rest)
