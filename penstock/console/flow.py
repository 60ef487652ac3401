"""Flows at the console: what began and what was dropped in one's networks, the newest first, by network, port and verdict."""

from typing import Any

from starlette.responses import Response

from penstock.actions import flow as flow_actions
from penstock.actions import network as network_actions
from penstock.base import limits
from penstock.console import network_part
from penstock.console.edge import Visit, get
from penstock.console.event import number
from penstock.domain.flow import Verdict
from penstock.store.schema import port

SHOWN = 100


def list_flows(visit: Visit) -> Response:
    """Show flows; the address says of which network, port and verdict."""
    asked = {name: visit.query(name) or None for name in ("network_id", "port_id", "verdict")}
    if asked["verdict"] not in list(Verdict):
        asked["verdict"] = None
    rows = flow_actions.list_page(
        visit.context,
        visit.actor,
        equal=asked,
        since=None,
        until=None,
        before=number(visit.query("before")),
        limit=SHOWN + 1,
    )
    networks = network_actions.list_page(
        visit.context, visit.actor, project_id=None, name=None, after=None, limit=limits.PAGE_MAX
    )
    ports = network_part.parts_of(visit, port, asked["network_id"])
    return visit.page(
        "flows.html",
        flows=rows[:SHOWN],
        more=rows[SHOWN - 1]["id"] if len(rows) > SHOWN else None,
        asked={name: value or "" for name, value in asked.items()},
        query="&".join(f"{name}={value}" for name, value in asked.items() if value),
        networks=networks,
        ports=ports,
        network_names={one["id"]: one["name"] for one in networks},
        port_names={one["id"]: one["name"] for one in ports},
        rules=_rules(visit, asked["network_id"]),
        verdicts=[("", "accepts and drops"), *((one.value, f"{one.value}s") for one in Verdict)],
    )


def _rules(visit: Visit, network_id: str | None) -> dict[str, Any]:
    """Return the group of each rule of a network, by the rule's id, to name it; {} for all networks."""
    if network_id is None:
        return {}
    groups = network_part.groups_of(visit, network_id)
    return {rule["id"]: group for group in groups for rule in group["rules"]}


routes = [get("/flows", list_flows)]
