"""What agents ask for: what is wanted of them, and that their reports be heard; and what operators do to them.

The in-process agent and the HTTPS listener call the same functions; both have established who the agent is.
How an agent joins and proves who it is, is in ``actions/agent_identity.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy.engine import Connection

from penstock.actions import agent_reach
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.clock import from_epoch_us, to_epoch_us
from penstock.base.errors import ConflictError, InvalidInputError, TooLargeError, UnauthenticatedError
from penstock.base.ids import is_id
from penstock.drivers.base import Json, Observed
from penstock.store import agent as agent_store
from penstock.store import allocation as allocation_store
from penstock.store import console_session as session_store
from penstock.store import event as event_store
from penstock.store import node as node_store
from penstock.store.allocation import Report
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

_REVOKED = (
    "this agent is unknown or was revoked; make a join token with `penstock agent token` and join again"
)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is wanted of an agent. ``full``: this is everything; else only what changed since the cursor before.

    Rows have ``id``, ``driver``, ``wanted``, ``generation``, ``config`` and ``node`` (its name). ``typing``: somebody
    types into the console of one of its machines, see ``actions.console_session.typed``.
    """

    full: bool
    cursor: int
    allocations: Sequence[Row]
    typing: bool = False


def ensure_in_process(context: Context, name: str) -> str:
    """Return the id of the agent of that name that lives in this process's factory, made if there is none."""
    with context.db.transaction(SYSTEM) as connection:
        row = agent_store.find_in_process(connection, name)
        if row is None:
            agent_id = context.new_id("agent")
            agent_store.insert(
                connection, agent_id=agent_id, name=name, transport="in_process", at=context.clock.now()
            )
            return agent_id
        _note_seen(connection, row["id"], context.clock.now())
        return str(row["id"])


def pull(context: Context, agent_id: str, after: int, wait_seconds: float) -> Pulled:
    """Return what is wanted of the agent, waiting up to ``wait_seconds`` while nothing changed since ``after``.

    ``after`` is the cursor of the answer before, 0 for everything. Raises UnauthenticatedError if the agent
    was revoked, InvalidInputError on a negative cursor.
    """
    if not 0 <= after < 1 << 63:
        raise InvalidInputError("the cursor is what the answer before gave, or 0", field="after")
    remaining = min(max(wait_seconds, 0.0), limits.AGENT_LONG_POLL_SECONDS)
    while True:
        seen = context.wakeups.count("allocation")
        with context.db.transaction(SYSTEM) as connection:
            require_agent(connection, agent_id)
            _note_seen(connection, agent_id, context.clock.now())
            cursor = allocation_store.cursor(connection)
            rows = allocation_store.of_agent(connection, agent_id, after)
            typing = session_store.any_open(connection, agent_id)
        if rows or after == 0 or remaining <= 0:
            return Pulled(after == 0, cursor, rows, typing)
        # Never longer than a heartbeat: the wait must not make the agent look silent, and a signal lost
        # between processes costs this much.
        step = min(remaining, limits.AGENT_HEARTBEAT_SECONDS)
        began = context.clock.monotonic()
        woken = context.wakeups.wait("allocation", seen, step)
        remaining -= context.clock.monotonic() - began if woken else step
        if woken and context.wakeups.count("allocation") == seen:
            return Pulled(full=False, cursor=cursor, allocations=rows)  # the process is stopping


def with_news(context: Context, after: int) -> tuple[int, list[str]]:
    """Return the cursor to ask with next, and which agents something changed for since cursor ``after``."""
    with context.db.transaction(SYSTEM) as connection:
        cursor = allocation_store.cursor(connection)
        return cursor, allocation_store.agents_with_news(connection, after) if after else []


def push(
    context: Context, agent_id: str, observations: Sequence[Observed], silent_nodes: Sequence[str] = ()
) -> int:
    """Record what an agent reports and wake the services concerned; return how many that were.

    ``silent_nodes`` are the names of all its nodes that the agent itself cannot reach now: they are lost,
    those it names no longer come back. An address that is not the agent's to name counts as a failure (see
    ``agent_reach``). Raises UnauthenticatedError if the agent was revoked, TooLargeError on more than
    ``limits.AGENT_PULL_BATCH`` observations.
    """
    if len(observations) > limits.AGENT_PULL_BATCH:
        raise TooLargeError(
            f"at most {limits.AGENT_PULL_BATCH} observations in one push; send the rest in another",
            field="observations",
        )
    now = context.clock.now()
    latest = {observed.allocation_id: observed for observed in observations}
    for observed in latest.values():
        _check(observed)

    def work(connection: Connection) -> dict[str, bool]:
        agent = require_agent(connection, agent_id)
        reports = [_report(agent_reach.believed(agent, observed), now) for observed in latest.values()]
        _note_seen(connection, agent_id, now)
        woken = allocation_store.record_observations(connection, agent_id, reports, now)
        there = _hear_of_nodes(connection, agent_id, silent_nodes, now)
        return {**dict.fromkeys(there, True), **woken}

    woken = context.db.retrying(SYSTEM, work)
    if woken:
        context.wakeups.signal("service")
    if any(woken.values()):
        context.wakeups.signal("gateway")
    if woken or any("meters" not in (one.detail or {}) for one in latest.values()):
        context.wakeups.signal("report")  # counters that a machine's host sends now and then move nothing on
    return len(woken)


def heartbeat(context: Context, agent_id: str) -> None:
    """Note that the agent lives; raises UnauthenticatedError if it was revoked."""
    with context.db.transaction(SYSTEM) as connection:
        require_agent(connection, agent_id)
        _note_seen(connection, agent_id, context.clock.now())


def require_agent(connection: Connection, agent_id: str) -> Row:
    """Return an agent that says something; raises UnauthenticatedError if it is unknown or was revoked."""
    row = agent_store.get(connection, agent_id)
    if row is None or row["state"] == "revoked":
        raise UnauthenticatedError(_REVOKED)
    return row


def _note_seen(connection: Connection, agent_id: str, now: datetime) -> None:
    """Note the sign of life; an agent that had been silent brings its nodes back, to be settled by the engine."""
    if agent_store.seen(connection, agent_id, now):
        event_store.emit(
            connection,
            at=now,
            kind="agent.returned",
            subject_id=agent_id,
            tenant_id=None,
            project_id=None,
            data={},
        )
        node_store.find_again(connection, agent_id, (), now)


def _hear_of_nodes(
    connection: Connection, agent_id: str, silent_nodes: Sequence[str], now: datetime
) -> list[str]:
    """Lose the nodes an agent cannot reach and find again those it can; return the services concerned."""
    lost = node_store.reachable_among(connection, agent_id, silent_nodes) if silent_nodes else []
    woken: list[str] = []
    if lost:
        woken = node_store.lose(connection, lost, "its agent cannot reach it", now)
    node_store.find_again(connection, agent_id, silent_nodes, now)
    return woken


def _check(observed: Observed) -> None:
    if not is_id(observed.allocation_id, "allocation"):
        raise InvalidInputError("an observation names an allocation", field="observations.allocation_id")
    if not 0 <= observed.generation < 1 << 63:
        raise InvalidInputError("a generation is a count", field="observations.generation")


def _report(observed: Observed, now: datetime) -> Report:
    busy = observed.busy_permille
    return Report(
        allocation_id=observed.allocation_id,
        generation=observed.generation,
        phase=observed.phase.value,
        code=_text(observed.code, limits.NAME_CHARACTERS_MAX),
        message=_text(observed.message, limits.TEXT_CHARACTERS_MAX),
        endpoint=_text(observed.endpoint, limits.TEXT_CHARACTERS_MAX),
        busy_permille=None if busy is None else min(max(busy, 0), 1000),
        started_at=_instant(observed.at_us.get("started"), now),
        ready_at=_instant(observed.at_us.get("ready"), now),
        detail=_detail(observed.detail),
    )


def _detail(detail: Mapping[str, Json] | None) -> str | None:
    """Return what else a driver says as JSON; too much of it is left out, PostgreSQL knows no NUL character."""
    if detail is None:
        return None
    text = orjson.dumps(detail, option=orjson.OPT_SORT_KEYS).decode()
    return None if len(text) > limits.OBSERVED_DETAIL_BYTES_MAX or "\\u0000" in text else text


def _text(value: str | None, characters_max: int) -> str | None:
    """Bound a text; PostgreSQL knows no NUL character."""
    return None if value is None else value.replace("\0", "")[:characters_max]


def _instant(epoch_us: int | None, now: datetime) -> datetime | None:
    """Return the instant an agent states, never in the future: its clock may be wrong, the ledger's may not."""
    return None if epoch_us is None else from_epoch_us(min(max(epoch_us, 0), to_epoch_us(now)))


def page(
    context: Context, actor: Actor, *, state: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` agents by id."""
    actor.require("agent:read")
    with context.db.transaction(actor.scope) as connection:
        return agent_store.page(connection, state=state, name=name, after=after, limit=limit)


def get(context: Context, actor: Actor, agent_id: str) -> Row:
    """Return one agent; raises NotFoundError."""
    actor.require_visible("agent", None, None, agent_id)
    with context.db.transaction(actor.scope) as connection:
        row = agent_store.get(connection, agent_id)
    if row is None:
        raise not_found("agent", agent_id)
    return row


def revoke(context: Context, actor: Actor, agent_id: str) -> Row:
    """Refuse an agent from now on, for good; its nodes are lost at once. Repeatable.

    Raises ConflictError for the agents inside this factory: they end with it.
    """
    with change(context, actor, "agent.revoke", agent_id) as made:
        actor.require_visible("agent", None, None, agent_id)
        actor.require("agent:write")
        row = agent_store.get(made.connection, agent_id)
        if row is None:
            raise not_found("agent", agent_id)
        if row["transport"] == "in_process":
            raise ConflictError(f"agent '{row['name']}' is part of this factory and ends with it")
        if agent_store.revoke(made.connection, agent_id):
            nodes = node_store.reachable_among(made.connection, agent_id)
            now = context.clock.now()
            node_store.lose(made.connection, nodes, f"its agent '{row['name']}' was revoked", now)
            made.done(
                "agent.revoked", agent_id, tenant_id=None, detail={"name": row["name"], "nodes": len(nodes)}
            )
    context.wakeups.signal("service")
    context.wakeups.signal("allocation")
    return get(context, actor, agent_id)
