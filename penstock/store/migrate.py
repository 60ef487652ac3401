"""Bring the tables of a database to what this version needs."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from penstock.base.errors import StartupError

# One process migrates at a time, whichever replica comes first; the others wait and find nothing to do.
_MIGRATION_LOCK = 7_331_770_001
_MINIMUM_SERVER_VERSION = 150_000


def migration_config(url: str) -> Config:
    """Return Alembic's configuration for the migrations that ship in the package."""
    config = Config()
    folder = Path(str(resources.files("penstock.store").joinpath("migrations")))
    config.set_main_option("script_location", str(folder))
    config.attributes["url"] = url
    return config


def migrate(url: str, say: Callable[[str], None] = lambda _: None) -> None:
    """Apply every missing migration to the database at ``url``, as its owner.

    Raises StartupError if the server is too old, unreachable, or holds tables of a newer Penstock.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 10})
    config = migration_config(url)
    scripts = ScriptDirectory.from_config(config)
    try:
        with engine.connect() as connection:
            version = int(connection.execute(sa.text("SHOW server_version_num")).scalar_one())
            if version < _MINIMUM_SERVER_VERSION:
                raise StartupError(f"PostgreSQL 15 or newer is needed; this server is {version // 10_000}")
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
            current = MigrationContext.configure(connection).get_current_revision()
            if current is not None and current not in {s.revision for s in scripts.walk_revisions()}:
                raise StartupError(
                    f"the database was written by a newer Penstock (revision {current}); start that version or newer"
                )
            if current != scripts.get_current_head():
                say(f"migrating the database from {current or 'empty'} to {scripts.get_current_head()}")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()  # before the lock is let go, or the next one would still find it empty
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()
    except OperationalError as error:
        raise StartupError(
            f"the database at {_place(engine)} cannot be reached ({_reason(error)}); check PENSTOCK_DATABASE_URL and that the server runs",
            internal=str(error),
        ) from error
    except ProgrammingError as error:
        raise StartupError(
            f"the tables cannot be made in the database at {_place(engine)} ({_reason(error)}); the login must own the database and may make roles (CREATEROLE)",
            internal=str(error),
        ) from error
    finally:
        engine.dispose()


def _place(engine: sa.Engine) -> str:
    """Return where the database is, without who logs in there."""
    url = engine.url
    host = url.host or url.query.get("host") or "the local socket"
    return f"{host}:{url.port or 5432}/{url.database or ''}"


def _reason(error: DBAPIError) -> str:
    """Return what the server or the network said, as part of a sentence; it never holds a password."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    if not lines:
        return type(error.orig).__name__
    return lines[0].rpartition("failed: ")[2].removeprefix("FATAL:").strip(" .")
