"""Typing into a machine's serial console: a right of its own, bounded, audited when it begins and when it ends.

Nobody reaches into a host. Keys wait in the session's row until the host's agent takes them; what the machine writes comes
as its console always does, only sooner. So any replica carries a session, whichever one the agent speaks to. What is typed
is written down nowhere: the audit trail says who, when, how long and how many bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from prometheus_client import Counter, Gauge
from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.actions.vm import visible
from penstock.base import limits
from penstock.base.errors import ConflictError, RateLimitedError, TooLargeError
from penstock.domain.vm import VmState
from penstock.drivers.base import Typed
from penstock.store import console_session as session_store
from penstock.store import vm_console as console_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

OPENED = Counter(
    "penstock_console_sessions_total", "Sessions at consoles of machines, by how they ended.", ("reason",)
)
CARRIED = Gauge("penstock_console_sessions_open", "Sessions at consoles that this process carries.")

_TYPES_AT = (VmState.RUNNING, VmState.MAINTENANCE_REQUIRED, VmState.DEGRADED)


@dataclass(frozen=True, slots=True)
class Session:
    """An open session, and how far its console was shown: an offset of the machine at its place."""

    id: str
    vm_id: str
    allocation_id: str
    tenant_id: str
    project_id: str
    opened_at: datetime
    shown_to: int
    shown_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """What is new in a session; ``ended`` says why it is over, None while it is not. ``attached``: the host types."""

    session: Session
    content: bytes
    attached: bool
    ended: str | None


def open_session(context: Context, actor: Actor, vm_id: str) -> Session:
    """Begin to type into a machine; its console is shown from a little before now on.

    ConflictError if it is not on, or if as many type there already as may.
    """
    now = context.clock.now()
    with change(context, actor, "vm.console_open", vm_id) as made:
        row = visible(made.connection, actor, vm_id, lock=True)
        require(actor, row)
        if row["state"] not in _TYPES_AT or row["node_state"] != "ready" or row["agent_id"] is None:
            raise ConflictError(f"this machine is {row['state']}: only one that runs takes keys")
        seen_after = now - limits.CONSOLE_LOST_AFTER
        if session_store.open_at(made.connection, vm_id, seen_after) >= limits.CONSOLE_SESSIONS_PER_VM_MAX:
            raise ConflictError(
                f"{limits.CONSOLE_SESSIONS_PER_VM_MAX} sessions are open at this console already; close one of them"
            )
        session_id = context.new_id("console_session")
        begin = console_store.upto(made.connection, vm_id, row["allocation_id"])
        values = {name: row[name] for name in ("tenant_id", "project_id", "allocation_id", "agent_id")}
        session_store.insert(
            made.connection,
            {
                "id": session_id,
                "service_id": vm_id,
                "principal_id": actor.principal_id,
                "opened_at": now,
                "seen_at": now,
                **values,
            },
        )
        made.done(
            "vm.console_opened",
            vm_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"session": session_id},
        )
    _ring(context, row["allocation_id"])
    shown_to = max(0, begin - limits.CONSOLE_SHOWN_AT_FIRST_BYTES)
    return Session(
        session_id, vm_id, row["allocation_id"], row["tenant_id"], row["project_id"], now, shown_to
    )


def require(actor: Actor, row: Mapping[str, str]) -> None:
    """Raise ForbiddenError unless somebody may read and type into the console of a machine."""
    for right in ("vm_console:open", "vm_console:write"):
        actor.require(right, row["tenant_id"], row["project_id"])


def still_may(actor: Actor, session: Session) -> None:
    """Raise ForbiddenError if the right to a session was taken away meanwhile."""
    require(actor, {"tenant_id": session.tenant_id, "project_id": session.project_id})


def type_into(context: Context, session: Session, content: bytes) -> None:
    """Send keys. TooLargeError on too many at once, RateLimitedError while the host has not taken those before."""
    if len(content) > limits.CONSOLE_MESSAGE_BYTES_MAX:
        raise TooLargeError(
            f"at most {limits.CONSOLE_MESSAGE_BYTES_MAX} bytes at once; send the rest in another message"
        )
    if not content:
        return

    def work(connection: Connection) -> bool:
        return session_store.add_typed(
            connection, session.id, content, limits.CONSOLE_TYPED_WAITING_BYTES_MAX
        )

    if not context.db.retrying(SYSTEM, work):
        raise RateLimitedError("the machine's host does not take what is typed now; wait a moment")
    context.wakeups.signal("console")


def look(context: Context, session: Session, wait_seconds: float) -> Look:
    """Return what the machine wrote since the look before, waiting up to ``wait_seconds`` for it; a sign of life."""
    seen = context.wakeups.count("console")
    found = _look(context, session)
    if found.content or found.ended or wait_seconds <= 0:
        return found
    context.wakeups.wait("console", seen, wait_seconds)
    return _look(context, session)


def _look(context: Context, session: Session) -> Look:
    now = context.clock.now()

    def work(connection: Connection) -> Look:
        row = session_store.beat(connection, session.id, session.shown_bytes, now)
        if row is None:
            return Look(session, b"", attached=False, ended="closed")
        upto, content = console_store.after(
            connection, session.vm_id, session.allocation_id, session.shown_to
        )
        new = replace(session, shown_to=upto, shown_bytes=session.shown_bytes + len(content))
        attached = row["attached_at"] is not None
        return Look(new, content, attached, _over(row, now))

    return context.db.retrying(SYSTEM, work)


def _over(row: Row, now: datetime) -> str | None:
    if now - row["opened_at"] > limits.CONSOLE_SESSION_TIME:
        return "too_long"
    if row["attached_at"] is None and now - row["opened_at"] > limits.CONSOLE_LOST_AFTER:
        return "host_silent"
    return None


def is_taken(context: Context, session: Session) -> bool:
    """Tell whether the host has taken every key, or never will: the session is over."""
    return context.db.retrying(SYSTEM, lambda c: session_store.is_taken(c, session.id))


def close(context: Context, actor: Actor, session: Session, reason: str) -> None:
    """End a session and say so in the audit trail; one that is over already is left alone."""
    now = context.clock.now()

    def work(connection: Connection) -> bool:
        row = session_store.close(connection, session.id, reason, now)
        if row is None:
            return False
        context.audit(
            connection,
            actor,
            "vm.console_close",
            session.vm_id,
            tenant_id=session.tenant_id,
            detail=said_of(row, now),
        )
        return True

    if context.db.retrying(SYSTEM, work):
        OPENED.labels(reason).inc()
    _ring(context, session.allocation_id)
    context.wakeups.signal("console")


def said_of(row: Row, now: datetime) -> dict[str, object]:
    """Return what the audit trail says of a session that is over."""
    return {
        "session": row["id"],
        "reason": row["reason"],
        "seconds": round((now - row["opened_at"]).total_seconds()),
        "typed_bytes": row["typed_bytes"],
        "shown_bytes": row["shown_bytes"],
    }


def typed(context: Context, agent_id: str, taken: Mapping[str, int], wait_seconds: float) -> list[Typed]:
    """Return the open sessions at an agent's machines with the keys that it has not taken, waiting for some.

    ``taken`` says of each session that the agent knows how many bytes of it were typed in all. Keys are typed once or not
    at all: an agent that has forgotten a session, because it was started anew, ends it.
    """
    seen = context.wakeups.count("console")
    found = context.db.retrying(SYSTEM, lambda c: _typed(context, c, agent_id, taken))
    news = any(one.content for one in found) or {one.session_id for one in found} != set(taken)
    if news or wait_seconds <= 0:
        return found
    context.wakeups.wait("console", seen, min(wait_seconds, limits.AGENT_HEARTBEAT_SECONDS))
    return context.db.retrying(SYSTEM, lambda c: _typed(context, c, agent_id, taken))


def _typed(context: Context, connection: Connection, agent_id: str, taken: Mapping[str, int]) -> list[Typed]:
    now = context.clock.now()
    found: list[Typed] = []
    for row in session_store.open_of_agent(connection, agent_id):
        if row["attached_at"] is None:
            session_store.attach(connection, row["id"], now)
        elif row["id"] not in taken:
            session_store.close(connection, row["id"], "host_restarted", now)
            context.wakeups.signal("console")
            continue
        waiting = bytes(row["typed"])
        begin = row["typed_bytes"] - len(waiting)
        left = waiting[max(0, taken.get(row["id"], 0) - begin) :]
        if len(left) != len(waiting):
            session_store.cut(connection, row["id"], left)
        found.append(Typed(row["id"], row["allocation_id"], row["typed_bytes"] - len(left), left))
    return found


def _ring(context: Context, allocation_id: str) -> None:
    """Let the host's agent hear at once that a session began or ended."""
    context.db.retrying(SYSTEM, lambda c: session_store.ring(c, allocation_id))
    context.wakeups.signal("allocation")
