"""The database: connections, transactions and the scope that row-level security reads.

Every transaction says whose rows it may see: ``SYSTEM`` or one tenant. Tenant connections start with no
scope at all, and a transaction sets one that ends with it; whoever forgets sees no tenant's rows. The
system's connections are a pool of their own. All act as the role ``penstock_app``, which cannot bypass
row-level security even where the login could.

Round trips are what an order costs, so a transaction begins with one (``BEGIN`` and the scope together) and
ends with one; the driver is in autocommit and this module alone says when a transaction begins and ends.
"""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NewType, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import errors as pg_errors
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from penstock.base.errors import ConflictingChangeError, UnavailableError

Scope = NewType("Scope", str)
SYSTEM = Scope("*")
APP_ROLE = "penstock_app"
TENANT_CONNECTIONS = 16
SYSTEM_CONNECTIONS = 12
POOL_WAIT_SECONDS = 10.0
STATEMENT_TIMEOUT_MS = 30_000
TRANSACTION_TRIES = 4
_SENTENCE = "the database cannot be reached right now; nothing was changed by this request, try again shortly"
_CONFLICT = "another change came in between; nothing was changed by this request, send it again"
_TENANT = re.compile(r"ten_[0-9a-z]{1,40}\Z")

Result = TypeVar("Result")


def tenant_scope(tenant_id: str) -> Scope:
    """Return the scope that sees one tenant's rows; ValueError if that is no tenant id."""
    if _TENANT.match(tenant_id) is None:
        raise ValueError("a tenant scope takes a tenant id")
    return Scope(tenant_id)


class Database:
    """Connections to one PostgreSQL."""

    def __init__(
        self,
        url: str,
        *,
        tenant_connections: int = TENANT_CONNECTIONS,
        system_connections: int = SYSTEM_CONNECTIONS,
        act_as_app_role: bool = True,
    ) -> None:
        self.url = url
        role = f"SET ROLE {APP_ROLE}; " if act_as_app_role else ""
        self._tenants = _engine(url, tenant_connections, f"{role}SET penstock.scope = ''")
        self._system = _engine(url, system_connections, f"{role}SET penstock.scope = '{SYSTEM}'")

    @contextmanager
    def transaction(self, scope: Scope) -> Generator[Connection]:
        """Open a transaction that sees the rows of ``scope``; commits at the end, rolls back on error.

        Raises UnavailableError while the database cannot be reached, ConflictingChangeError if PostgreSQL
        chose this transaction as the victim of a deadlock.
        """
        begin = "BEGIN"
        if scope != SYSTEM:
            # Lower-case letters and digits can stand in the statement; '' sees nothing.
            if scope and _TENANT.match(scope) is None:
                raise ValueError("a scope is SYSTEM or made by tenant_scope()")
            begin = f"BEGIN; SET LOCAL penstock.scope = '{scope}'"
        with self._connection(scope) as connection:
            driver = _driver(connection)
            driver.execute(begin, prepare=False)
            try:
                yield connection
            except BaseException:
                _roll_back(connection, driver)
                raise
            driver.execute("COMMIT", prepare=False)

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Run single statements of the system's, each a transaction by itself; for reads on hot paths."""
        with self._connection(SYSTEM) as connection:
            yield connection

    @contextmanager
    def _connection(self, scope: Scope) -> Generator[Connection]:
        engine = self._system if scope == SYSTEM else self._tenants
        try:
            with engine.connect() as connection:
                try:
                    yield connection
                except (psycopg.OperationalError, OperationalError, InterfaceError) as error:
                    if not _is_conflict(error):
                        connection.invalidate()
                        engine.dispose()  # a server that was restarted took the idle connections with it
                    raise
        except (psycopg.OperationalError, OperationalError, InterfaceError, PoolTimeoutError) as error:
            if _is_conflict(error):
                raise ConflictingChangeError(_CONFLICT, internal=str(error)) from error
            raise UnavailableError(_SENTENCE, internal=str(error)) from error

    def retrying(self, scope: Scope, work: Callable[[Connection], Result]) -> Result:
        """Run ``work`` in a transaction, again if PostgreSQL chose it as the victim of a deadlock."""
        for attempt in range(TRANSACTION_TRIES):
            try:
                with self.transaction(scope) as connection:
                    return work(connection)
            except ConflictingChangeError:
                if attempt == TRANSACTION_TRIES - 1:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def raw_dsn(self) -> str:
        """Return the connection string for a plain psycopg connection (the wake-up listener)."""
        return self._system.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def dispose(self) -> None:
        """Close every pooled connection."""
        self._tenants.dispose()
        self._system.dispose()


def _engine(url: str, connections: int, at_connect: str) -> Engine:
    engine = sa.create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_use_lifo=True,
        connect_args={
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
            "application_name": "penstock",
            "connect_timeout": 5,
        },
    )

    def prepare(dbapi_connection: Any, record: Any) -> None:
        del record
        autocommit = dbapi_connection.autocommit
        dbapi_connection.autocommit = True
        try:
            dbapi_connection.execute(at_connect, prepare=False)
        finally:
            dbapi_connection.autocommit = autocommit

    event.listen(engine, "connect", prepare)
    return engine


def _driver(connection: Connection) -> Any:
    """Return psycopg's own connection."""
    return connection.connection.driver_connection


def _roll_back(connection: Connection, driver: Any) -> None:
    """Undo; a connection on which even that fails is thrown away."""
    try:
        if driver.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            driver.execute("ROLLBACK", prepare=False)
    except psycopg.Error:
        connection.invalidate()


def _is_conflict(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(cause, pg_errors.DeadlockDetected | pg_errors.SerializationFailure)
