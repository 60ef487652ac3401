"""Agents, as operators see them. What agents themselves ask for is in ``agent_listener.py``, on its own port."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import agent as agent_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, answer, page
from penstock.api.fields import NameFilter, PathId
from penstock.base import limits
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/agents", tags=["agents"])

State = Literal["active", "silent", "revoked"]


class AgentOut(BaseModel):
    """An agent; ``transport`` is ``in_process`` for those that are part of the factory, else ``https``.

    ``source_address`` is where it enrolled from, ``serve_host`` where it says that its replicas are reached.
    """

    id: str
    name: str
    transport: str
    state: State
    nodes: int
    source_address: str | None
    serve_host: str | None
    certificate_sha256: str | None
    certificate_expires_at: datetime | None
    last_seen_at: datetime
    created_at: datetime


class AgentPage(BaseModel):
    """A page of agents."""

    items: list[AgentOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return an agent as the API shows it."""
    return {name: row[name] for name in AgentOut.model_fields}


@router.get("", responses={200: {"model": AgentPage}, **ERRORS})
def list_agents(
    call: Caller,
    state: State | None = None,
    name: NameFilter = None,
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List agents (operators)."""
    actor = call.actor()
    rows = agent_actions.page(call.context, actor, state=state, name=name, after=after, limit=limit + 1)
    return page([out(row) for row in rows], limit)


@router.get("/{agent_id}", responses={200: {"model": AgentOut}, **ERRORS})
def get_agent(call: Caller, agent_id: PathId) -> Response:
    """Show one agent (operators)."""
    actor = call.actor()
    return answer(out(agent_actions.get(call.context, actor, agent_id)))


@router.post("/{agent_id}/revoke", responses={200: {"model": AgentOut}, **ERRORS})
def revoke_agent(call: Caller, agent_id: PathId) -> Response:
    """Refuse an agent from now on, for good (operators); its nodes are lost at once."""
    actor = call.actor()
    return answer(out(agent_actions.revoke(call.context, actor, agent_id)))
