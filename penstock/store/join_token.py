"""Join tokens: how a new agent proves that an operator invited it. Stored hashed, good for one use."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import join_token

# Everything but the hash of the secret.
_SHOWN = [column for column in join_token.c if column.name != "secret_sha256"]
_LOCK = sa.text("SELECT * FROM join_token WHERE id = :id FOR UPDATE")


def insert(
    connection: Connection,
    *,
    token_id: str,
    secret_sha256: str,
    created_by: str,
    at: datetime,
    expires_at: datetime,
) -> None:
    """Add an unused token."""
    connection.execute(
        sa.insert(join_token).values(
            id=token_id,
            secret_sha256=secret_sha256,
            created_by=created_by,
            created_at=at,
            expires_at=expires_at,
        )
    )


def lock(connection: Connection, token_id: str) -> Row | None:
    """Return one token with its hash, locked until the transaction ends, so that it is used once; or None."""
    return one(connection.execute(_LOCK, {"id": token_id}))


def mark_used(connection: Connection, token_id: str, agent_id: str, at: datetime) -> None:
    """Write who used a token; the caller holds its lock and has seen it unused."""
    connection.execute(
        sa.update(join_token).where(join_token.c.id == token_id).values(used_at=at, used_by_agent_id=agent_id)
    )


def end(connection: Connection, token_id: str, at: datetime) -> bool:
    """Let a token end now; False if it was used or has ended."""
    result = connection.execute(
        sa.update(join_token)
        .where(join_token.c.id == token_id, join_token.c.used_at.is_(None), join_token.c.expires_at > at)
        .values(expires_at=at)
    )
    return result.rowcount == 1


def get(connection: Connection, token_id: str) -> Row | None:
    """Return one token without its hash, or None."""
    return one(connection.execute(sa.select(*_SHOWN).where(join_token.c.id == token_id)))


def page(connection: Connection, *, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` tokens by id, without their hashes."""
    query = sa.select(*_SHOWN).order_by(join_token.c.id).limit(limit)
    if after is not None:
        query = query.where(join_token.c.id > after)
    return every(connection.execute(query))


def remove_ended(connection: Connection, before: datetime) -> int:
    """Delete unused tokens that ended before ``before``; return how many. A used one says who came with it."""
    ended = sa.delete(join_token).where(join_token.c.used_at.is_(None), join_token.c.expires_at < before)
    return connection.execute(ended).rowcount
