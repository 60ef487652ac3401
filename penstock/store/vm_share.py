"""A share of a node that grows or shrinks where it is: what a machine that is resized holds."""

from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.claim import REFUSAL_SENTENCES, Ask, Grant, fits
from penstock.store.fleet import BESIDE_NODE, node_state
from penstock.store.rows import every

_NODE = sa.text(f"SELECT n.*, {BESIDE_NODE} FROM node n WHERE n.id = :id FOR NO KEY UPDATE OF n")  # noqa: S608 - constants
_ADD = sa.text(
    "UPDATE node SET memory_used_bytes = memory_used_bytes + :memory, cpu_used_millis = cpu_used_millis + :cpu, "
    "generation = generation + 1 WHERE id = :id"
)
_HELD_SHARE = sa.text(
    "SELECT id, node_id, node_memory_bytes, node_cpu_millis FROM claim "
    "WHERE service_id = :id AND released_at IS NULL AND node_memory_bytes > 0 ORDER BY id FOR NO KEY UPDATE"
)
_SET_SHARE = sa.text("UPDATE claim SET node_memory_bytes = :memory, node_cpu_millis = :cpu WHERE id = :id")


def resize(connection: Connection, service_id: str, *, memory_bytes: int, cpu_millis: int) -> str | None:
    """Change how much of its one node a service holds; return why that cannot be as a sentence, None if it is done.

    Judged by ``fits`` on the locked node, as every claim is. Undo: resize back.
    """
    rows = every(connection.execute(_HELD_SHARE, {"id": service_id}))
    if len(rows) != 1:
        return "it does not hold a share of exactly one node"
    held = rows[0]
    (node,) = every(connection.execute(_NODE, {"id": held["node_id"]}))
    state = node_state(node)
    without = replace(
        state,
        schedulable=True,  # it is there already; a cordon keeps others out
        kept_for=None,
        memory_used_bytes=state.memory_used_bytes - held["node_memory_bytes"],
        cpu_used_millis=state.cpu_used_millis - held["node_cpu_millis"],
    )
    ask = Ask(
        0, node_memory_bytes=memory_bytes, node_cpu_millis=cpu_millis, driver=next(iter(state.drivers), "")
    )
    grant = Grant(held["node_id"], None, 0, memory_bytes, cpu_millis)
    refusal = fits(ask, grant, without, None)
    if refusal is not None:
        return REFUSAL_SENTENCES[refusal]
    connection.execute(_SET_SHARE, {"id": held["id"], "memory": memory_bytes, "cpu": cpu_millis})
    more = (memory_bytes - held["node_memory_bytes"], cpu_millis - held["node_cpu_millis"])
    connection.execute(_ADD, {"id": held["node_id"], "memory": more[0], "cpu": more[1]})
    return None
