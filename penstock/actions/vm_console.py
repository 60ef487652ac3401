"""The serial console of a machine: what agents send of it, and who may read it."""

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.actions.vm import visible
from penstock.base import limits
from penstock.store import agent as agent_store
from penstock.store import console_session as session_store
from penstock.store import vm_console as console_store
from penstock.store.database import SYSTEM


def read(context: Context, actor: Actor, vm_id: str, *, bytes_max: int) -> bytes:
    """Return the newest part of what a machine wrote to its serial console; a right of its own, and audited.

    It goes back over moves and new places, as long as ``limits.CONSOLE_KEPT`` and ``CONSOLE_BYTES_MAX`` let it.
    """
    with change(context, actor, "vm.console_read", vm_id) as made:
        row = visible(made.connection, actor, vm_id)
        actor.require("vm_console:open", row["tenant_id"], row["project_id"])
        pieces = console_store.read(made.connection, vm_id)
        context.audit(made.connection, actor, "vm.console_read", vm_id, tenant_id=row["tenant_id"])
    return b"".join(bytes(piece["content"]) for piece in pieces)[-bytes_max:]


def take(context: Context, agent_id: str, allocation_id: str, begin: int, content: bytes) -> int:
    """Keep a piece of a console that an agent sends; return the offset it is to go on from.

    What is known already is cut off, so an agent that remembers nothing may begin at 0. A piece of a machine that is
    not this agent's is dropped without a word.
    """

    def work(connection: Connection) -> int:
        if agent_store.get(connection, agent_id) is None:
            return begin
        known = console_store.ends(connection, agent_id).get(allocation_id, 0)
        new = content[max(0, known - begin) :]
        if new:
            console_store.add(
                connection,
                agent_id,
                allocation_id,
                begin=max(begin, known),
                content=new,
                at=context.clock.now(),
                most=limits.CONSOLE_BYTES_MAX,
            )
            if session_store.watched(connection, allocation_id):
                context.wakeups.signal("console")
        return max(known, begin + len(content))

    with context.wakeups.held():
        return context.db.retrying(SYSTEM, work)
