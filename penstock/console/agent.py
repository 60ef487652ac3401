"""Agents and health: who drives the nodes, what is lost or broken, and how another machine joins."""

from datetime import timedelta

from starlette.responses import Response

from penstock.actions import agent as agent_actions
from penstock.actions import device as device_actions
from penstock.actions import join_token as join_token_actions
from penstock.actions import node as node_actions
from penstock.base import limits
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.store.rows import Row

TOKEN_HOURS = (("1", "one hour"), ("24", "a day"), ("168", "a week"))
SHOWN_MAX = 200


def show(visit: Visit) -> Response:
    """Show agents, nodes that are not well, devices that are not well, and join tokens."""
    agents = agent_actions.page(
        visit.context, visit.actor, state=None, name=None, after=None, limit=limits.PAGE_MAX
    )
    may_write = visit.actor.may("join_token:write")
    tokens = (
        join_token_actions.page(visit.context, visit.actor, after=None, limit=limits.PAGE_MAX)
        if visit.actor.may("join_token:read")
        else []
    )
    return visit.page(
        "agents.html",
        agents=sorted(agents, key=lambda row: (row["state"] == "revoked", row["name"])),
        lost=[*_nodes(visit, "unreachable"), *_nodes(visit, "recovering")],
        broken=[*_devices(visit, "failed"), *_devices(visit, "suspect")],
        tokens=[token for token in tokens if token["state"] == "valid"],
        hours=TOKEN_HOURS,
        may_write=may_write,
        at=visit.context.clock.now(),
    )


def _nodes(visit: Visit, state: str) -> list[Row]:
    return node_actions.page(
        visit.context, visit.actor, filters={"state": state}, after=None, limit=SHOWN_MAX
    )


def _devices(visit: Visit, health: str) -> list[Row]:
    return device_actions.page(
        visit.context, visit.actor, filters={"health": health}, after=None, limit=SHOWN_MAX
    )


def make_token(visit: Visit) -> Response:
    """Make a join token and show it, this once."""
    hours = visit.whole("hours", "The life of a token in hours")
    made = join_token_actions.create(visit.context, visit.actor, timedelta(hours=min(max(hours, 0), 10_000)))
    return visit.page("join_token.html", token=made)


def revoke_token(visit: Visit) -> Response:
    """Let an unused token end now."""
    join_token_actions.revoke(visit.context, visit.actor, visit.path("token_id"))
    return visit.go("/agents", "The token is void.")


def ask_revoke(visit: Visit) -> Response:
    """Say what revoking an agent does."""
    row = agent_actions.get(visit.context, visit.actor, visit.path("agent_id"))
    nodes = node_actions.page(
        visit.context, visit.actor, filters={"agent_id": row["id"]}, after=None, limit=limits.PAGE_MAX
    )
    held = sum(node["devices_used"] for node in nodes)
    return confirm.ask(
        visit,
        title=f"Revoke the agent {row['name']}?",
        effects=[
            f"It is refused from now on, for good. Its {len(nodes)} nodes are lost at once; {held} of their devices are sold.",
            "What ran there is placed again elsewhere where there is room.",
            "The machine may join again with a new token.",
        ],
        action=f"/agents/{row['id']}/revoke",
        button=f"Revoke {row['name']}",
        back=("/agents", "Agents and health"),
        dangerous=True,
    )


def revoke(visit: Visit) -> Response:
    """Refuse an agent from now on."""
    row = agent_actions.revoke(visit.context, visit.actor, visit.path("agent_id"))
    return visit.go("/agents", f"The agent '{row['name']}' is revoked.")


routes = [
    get("/agents", show),
    post("/agents/tokens", make_token, proof_at="/agents"),
    post("/agents/tokens/{token_id}/revoke", revoke_token),
    get("/agents/{agent_id}/revoke", ask_revoke),
    post("/agents/{agent_id}/revoke", revoke, proof_at="/agents/{agent_id}/revoke"),
]
