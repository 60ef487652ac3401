"""The database: connections, transactions and the scope that row-level security reads.

Every transaction says whose rows it may see: ``SYSTEM`` or one tenant. The scope is set inside the
transaction and ends with it; a transaction that said nothing sees no tenant's rows at all. Connections act
as the role ``penstock_app``, which cannot bypass row-level security even where the login could.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NewType, TypeVar

import sqlalchemy as sa
from psycopg import errors as pg_errors
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from penstock.base.errors import UnavailableError

Scope = NewType("Scope", str)
SYSTEM = Scope("*")
APP_ROLE = "penstock_app"
POOL_CONNECTIONS = 16
POOL_WAIT_SECONDS = 10.0
STATEMENT_TIMEOUT_MS = 30_000
TRANSACTION_TRIES = 4

_SET_SCOPE = sa.text("SELECT set_config('penstock.scope', :scope, true)")
Result = TypeVar("Result")


def tenant_scope(tenant_id: str) -> Scope:
    """Return the scope that sees one tenant's rows."""
    if not tenant_id.startswith("ten_"):
        raise ValueError("a tenant scope takes a tenant id")
    return Scope(tenant_id)


class Database:
    """A pool of connections to one PostgreSQL."""

    def __init__(
        self, url: str, *, connections: int = POOL_CONNECTIONS, act_as_app_role: bool = True
    ) -> None:
        self.url = url
        self._engine: Engine = sa.create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_pre_ping=False,
            pool_use_lifo=True,
            connect_args={
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
                "application_name": "penstock",
                "connect_timeout": 5,
            },
        )
        if act_as_app_role:
            event.listen(self._engine, "connect", _become_app_role)

    @contextmanager
    def transaction(self, scope: Scope) -> Generator[Connection]:
        """Open a transaction that sees the rows of ``scope``; commits at the end, rolls back on error.

        Raises UnavailableError while the database cannot be reached.
        """
        try:
            with self._engine.begin() as connection:
                connection.execute(_SET_SCOPE, {"scope": scope})
                yield connection
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            if isinstance(error, OperationalError) and _is_conflict(error):
                raise
            raise UnavailableError(
                "the database cannot be reached right now; nothing was changed by this request, try again shortly",
                internal=str(error),
            ) from error

    def retrying(self, scope: Scope, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in a transaction, again if PostgreSQL chose it as the victim of a deadlock."""
        for attempt in range(TRANSACTION_TRIES):
            try:
                with self.transaction(scope) as connection:
                    return work(connection)
            except DBAPIError as error:
                if not _is_conflict(error) or attempt == TRANSACTION_TRIES - 1:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def raw_dsn(self) -> str:
        """Return the connection string for a plain psycopg connection (the wake-up listener)."""
        return self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def dispose(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


def _become_app_role(dbapi_connection: Any, _record: Any) -> None:
    autocommit = dbapi_connection.autocommit
    dbapi_connection.autocommit = True
    try:
        dbapi_connection.execute(f"SET ROLE {APP_ROLE}")
    finally:
        dbapi_connection.autocommit = autocommit


def _is_conflict(error: DBAPIError) -> bool:
    return isinstance(error.orig, pg_errors.DeadlockDetected | pg_errors.SerializationFailure)
