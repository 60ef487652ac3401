"""Sessions at consoles: who types into which machine, and the keys on their way to its host.

What a host has taken is cut off, so a row holds what is under way and nothing that was typed before.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every, one
from penstock.store.schema import console_session

_SHOWN = [column for column in console_session.c if column.name != "typed"]


def insert(connection: Connection, values: Mapping[str, object]) -> None:
    """Open a session."""
    connection.execute(sa.insert(console_session).values(**values))


_RING = sa.text("UPDATE allocation SET wanted = wanted WHERE id = :id")


def ring(connection: Connection, allocation_id: str) -> None:
    """Let the host's agent look at once, as if its wish had changed; then signal ``allocation``."""
    connection.execute(_RING, {"id": allocation_id})


def open_at(connection: Connection, service_id: str, seen_after: datetime) -> int:
    """Return how many sessions are open at a machine and were carried lately."""
    query = sa.select(sa.func.count()).where(
        console_session.c.service_id == service_id,
        console_session.c.closed_at.is_(None),
        console_session.c.seen_at > seen_after,
    )
    return int(connection.execute(query).scalar_one())


def beat(connection: Connection, session_id: str, shown_bytes: int, at: datetime) -> Row | None:
    """Note that a session is carried and what it has shown in all, and return it; None if it is closed."""
    statement = (
        sa.update(console_session)
        .where(console_session.c.id == session_id, console_session.c.closed_at.is_(None))
        .values(seen_at=at, shown_bytes=shown_bytes)
        .returning(*_SHOWN)
    )
    return one(connection.execute(statement))


def add_typed(connection: Connection, session_id: str, content: bytes, waiting_most: int) -> bool:
    """Put keys on their way; False if too many wait there already, or the session is closed."""
    statement = (
        sa.update(console_session)
        .where(
            console_session.c.id == session_id,
            console_session.c.closed_at.is_(None),
            sa.func.length(console_session.c.typed) + len(content) <= waiting_most,
        )
        .values(
            typed=console_session.c.typed.op("||")(content),
            typed_bytes=console_session.c.typed_bytes + len(content),
        )
    )
    return connection.execute(statement).rowcount == 1


def open_of_agent(connection: Connection, agent_id: str) -> list[Row]:
    """Return the open sessions at machines of an agent, locked, with the keys on their way."""
    query = (
        sa.select(console_session)
        .where(console_session.c.agent_id == agent_id, console_session.c.closed_at.is_(None))
        .order_by(console_session.c.id)
        .with_for_update()
    )
    return every(connection.execute(query))


def any_open(connection: Connection, agent_id: str) -> bool:
    """Tell whether somebody types into a machine of an agent."""
    query = sa.select(sa.literal(1)).where(
        console_session.c.agent_id == agent_id, console_session.c.closed_at.is_(None)
    )
    return connection.execute(query.limit(1)).first() is not None


def watched(connection: Connection, allocation_id: str) -> bool:
    """Tell whether somebody looks at the console of a machine's place."""
    query = sa.select(sa.literal(1)).where(
        console_session.c.allocation_id == allocation_id, console_session.c.closed_at.is_(None)
    )
    return connection.execute(query.limit(1)).first() is not None


def attach(connection: Connection, session_id: str, at: datetime) -> None:
    """Note that the host types what is typed."""
    connection.execute(
        sa.update(console_session).where(console_session.c.id == session_id).values(attached_at=at)
    )


def cut(connection: Connection, session_id: str, left: bytes) -> None:
    """Keep only the keys that the host has not taken yet."""
    connection.execute(
        sa.update(console_session).where(console_session.c.id == session_id).values(typed=left)
    )


def is_taken(connection: Connection, session_id: str) -> bool:
    """Tell whether no keys of a session are on their way."""
    query = sa.select(sa.literal(1)).where(
        console_session.c.id == session_id, sa.func.length(console_session.c.typed) > 0
    )
    return connection.execute(query).first() is None


def close(connection: Connection, session_id: str, reason: str, at: datetime) -> Row | None:
    """Close a session and return it; None if it was closed before."""
    statement = (
        sa.update(console_session)
        .where(console_session.c.id == session_id, console_session.c.closed_at.is_(None))
        .values(closed_at=at, reason=reason, typed=b"")
        .returning(*_SHOWN)
    )
    return one(connection.execute(statement))


def lost(connection: Connection, seen_before: datetime, limit: int) -> Sequence[str]:
    """Return open sessions that nobody carries any more."""
    query = (
        sa.select(console_session.c.id)
        .where(console_session.c.closed_at.is_(None), console_session.c.seen_at < seen_before)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def forget(connection: Connection, before: datetime) -> int:
    """Remove what was closed before an instant; return how many."""
    return connection.execute(sa.delete(console_session).where(console_session.c.closed_at < before)).rowcount
