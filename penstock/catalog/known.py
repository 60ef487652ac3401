"""Reads what orders are compiled against: device classes and models."""

from collections.abc import Mapping

from sqlalchemy.engine import Connection

from penstock.catalog.base import Known, ModelFacts
from penstock.domain.device import DeviceClass
from penstock.store import model as model_store


def read_known(connection: Connection, classes: Mapping[str, DeviceClass]) -> Known:
    """Return the device classes and every model that may be ordered."""
    models = {
        row["name"]: ModelFacts(row["name"], row["folder"], row["size_bytes"], tuple(row["engines"]))
        for row in model_store.active(connection)
    }
    return Known(classes, models)
