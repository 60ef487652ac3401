"""How Alembic reaches the database: the caller's open connection, else the URL it was given."""

import sqlalchemy as sa
from alembic import context

from penstock.store.schema import metadata


def _run(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


_connection = context.config.attributes.get("connection")
if _connection is not None:
    _run(_connection)
else:
    with sa.create_engine(context.config.attributes["url"], poolclass=sa.NullPool).connect() as _opened:
        _run(_opened)
