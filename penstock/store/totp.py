"""Second factors of users. A secret comes and goes sealed; only the actions hold the key."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import totp


def get(connection: Connection, principal_id: str) -> Row | None:
    """Return a user's second factor, confirmed or not, locked until the transaction ends; None without one."""
    return one(
        connection.execute(sa.select(totp).where(totp.c.principal_id == principal_id).with_for_update())
    )


def confirmed_at(connection: Connection, principal_id: str) -> datetime | None:
    """Return since when the second factor is asked for, None if it is not."""
    query = sa.select(totp.c.confirmed_at).where(totp.c.principal_id == principal_id)
    return connection.execute(query).scalar_one_or_none()


def begin(
    connection: Connection, principal_id: str, tenant_id: str | None, secret: str, at: datetime
) -> None:
    """Write an unconfirmed second factor over whatever unconfirmed one was there."""
    statement = insert(totp).values(
        principal_id=principal_id, tenant_id=tenant_id, secret=secret, recovery_sha256=[], created_at=at
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["principal_id"],
            set_={"secret": statement.excluded.secret, "created_at": at, "last_step": 0},
            where=totp.c.confirmed_at.is_(None),
        )
    )


def confirm(
    connection: Connection, principal_id: str, step: int, recovery_sha256: Sequence[str], at: datetime
) -> None:
    """Ask for the second factor from ``at`` on."""
    connection.execute(
        sa.update(totp)
        .where(totp.c.principal_id == principal_id)
        .values(confirmed_at=at, last_step=step, recovery_sha256=list(recovery_sha256))
    )


def use_step(connection: Connection, principal_id: str, step: int) -> None:
    """Note the step of a code that was accepted; no earlier one is accepted again."""
    connection.execute(sa.update(totp).where(totp.c.principal_id == principal_id).values(last_step=step))


def use_recovery(connection: Connection, principal_id: str, left: Sequence[str]) -> None:
    """Keep only the recovery codes that are ``left``."""
    connection.execute(
        sa.update(totp).where(totp.c.principal_id == principal_id).values(recovery_sha256=list(left))
    )


def remove(connection: Connection, principal_id: str) -> bool:
    """Remove the second factor; False if there was none."""
    return connection.execute(sa.delete(totp).where(totp.c.principal_id == principal_id)).rowcount == 1


def page(connection: Connection, *, after: str, limit: int) -> list[Row]:
    """Return up to ``limit`` second factors after a principal's id; needs the system scope."""
    query = sa.select(totp.c.principal_id, totp.c.secret).where(totp.c.principal_id > after)
    return every(connection.execute(query.order_by(totp.c.principal_id).limit(limit)))


def put_secret(connection: Connection, principal_id: str, old: str, new: str) -> int:
    """Write the same secret in another form; returns 0 if it changed meanwhile, else 1."""
    statement = sa.update(totp).where(totp.c.principal_id == principal_id, totp.c.secret == old)
    return connection.execute(statement.values(secret=new)).rowcount
