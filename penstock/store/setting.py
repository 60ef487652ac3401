"""Small facts about the factory as a whole, by name. Never a secret in clear."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from penstock.store.schema import setting

_GET = sa.select(setting.c.value).where(setting.c.name == sa.bindparam("name"))


def get(connection: Connection, name: str) -> Any:
    """Return the JSON value of a setting, None if it was never set."""
    return connection.execute(_GET, {"name": name}).scalar_one_or_none()


def put(connection: Connection, name: str, value: Any) -> None:
    """Write a setting, whatever it was."""
    statement = insert(setting).values(name=name, value=value)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": statement.excluded.value})
    )
