"""Reads what orders are compiled against: device classes and models."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.engine import Connection

from penstock.catalog.base import Known, ModelFacts
from penstock.domain.device import DeviceClass
from penstock.drivers.ctranslate2.checkpoint import model_reference
from penstock.store import model as model_store


def read_known(connection: Connection, classes: Mapping[str, DeviceClass]) -> Known:
    """Return the device classes and every model that may be ordered."""
    return known_from(classes, model_store.active(connection))


def known_from(classes: Mapping[str, DeviceClass], model_rows: Iterable[Mapping[str, Any]]) -> Known:
    """Return the same from model rows that were read already.

    A model that ships in the package is named as such, because other machines have the package elsewhere.
    """
    models = {
        row["name"]: ModelFacts(
            row["name"], model_reference(row["folder"]), row["size_bytes"], tuple(row["engines"])
        )
        for row in model_rows
    }
    return Known(dict(classes), models)  # a copy: operators may add classes meanwhile
