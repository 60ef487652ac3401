"""Consoles of machines: pieces by offset, the newest part of each."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.store.rows import Row, every

_ADD = sa.text(
    """
    INSERT INTO vm_console (service_id, begin_offset, allocation_id, tenant_id, content, received_at)
    SELECT a.service_id, :begin, a.id, a.tenant_id, :content, :at FROM allocation a
    WHERE a.id = :allocation_id AND a.agent_id = :agent_id AND a.service_id IS NOT NULL
        AND EXISTS (SELECT FROM vm v WHERE v.service_id = a.service_id)
    ON CONFLICT DO NOTHING
    """
)
_TRIM = sa.text(
    """
    DELETE FROM vm_console c USING (
        SELECT service_id, begin_offset, allocation_id,
            sum(length(content)) OVER (PARTITION BY service_id ORDER BY received_at DESC, begin_offset DESC) AS upto
        FROM vm_console WHERE service_id = (SELECT service_id FROM allocation WHERE id = :allocation_id)
    ) s
    WHERE c.service_id = s.service_id AND c.begin_offset = s.begin_offset AND c.allocation_id = s.allocation_id
        AND s.upto > :most
    """
)
_FORGET = sa.text("DELETE FROM vm_console WHERE received_at < :before")


def add(
    connection: Connection,
    agent_id: str,
    allocation_id: str,
    *,
    begin: int,
    content: bytes,
    at: datetime,
    most: int,
) -> None:
    """Keep a piece that the machine's own agent sent, once; drop the oldest over ``most`` bytes. System scope."""
    values = {
        "allocation_id": allocation_id,
        "agent_id": agent_id,
        "begin": begin,
        "content": content,
        "at": at,
    }
    connection.execute(_ADD, values)
    connection.execute(_TRIM, {"allocation_id": allocation_id, "most": most})


def forget(connection: Connection, before: datetime) -> int:
    """Remove what came before an instant; return how many pieces."""
    return connection.execute(_FORGET, {"before": before}).rowcount


_READ = sa.text(
    "SELECT begin_offset, allocation_id, content, received_at FROM vm_console WHERE service_id = :id "
    "ORDER BY received_at, begin_offset"
)


def read(connection: Connection, service_id: str) -> list[Row]:
    """Return every piece of a machine's console, the oldest first; they are few and bounded."""
    return every(connection.execute(_READ, {"id": service_id}))


_ENDS = sa.text(
    "SELECT c.allocation_id, max(c.begin_offset + length(c.content)) AS upto FROM vm_console c "
    "JOIN allocation a ON a.id = c.allocation_id WHERE a.agent_id = :agent_id GROUP BY 1"
)


def ends(connection: Connection, agent_id: str) -> dict[str, int]:
    """Return how far each console of an agent's machines was received."""
    return {row.allocation_id: int(row.upto) for row in connection.execute(_ENDS, {"agent_id": agent_id})}


_UPTO = sa.text(
    "SELECT coalesce(max(begin_offset + length(content)), 0) FROM vm_console "
    "WHERE service_id = :id AND allocation_id = :allocation_id"
)
_AFTER = sa.text(
    "SELECT begin_offset, content FROM vm_console WHERE service_id = :id AND allocation_id = :allocation_id "
    "AND begin_offset + length(content) > :after ORDER BY begin_offset LIMIT :pieces"
)
_PIECES_AT_ONCE = 8


def upto(connection: Connection, service_id: str, allocation_id: str) -> int:
    """Return how far the console of a machine at one place is known, as an offset."""
    return int(connection.execute(_UPTO, {"id": service_id, "allocation_id": allocation_id}).scalar_one())


def after(connection: Connection, service_id: str, allocation_id: str, offset: int) -> tuple[int, bytes]:
    """Return what was written from an offset on, some pieces of it, and the offset where that ends."""
    values = {"id": service_id, "allocation_id": allocation_id, "after": offset, "pieces": _PIECES_AT_ONCE}
    parts: list[bytes] = []
    for row in connection.execute(_AFTER, values):
        parts.append(bytes(row.content)[max(0, offset - row.begin_offset) :])
        offset = row.begin_offset + len(row.content)
    return offset, b"".join(parts)
