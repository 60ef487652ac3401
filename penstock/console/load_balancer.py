"""Load balancers: what they listen on, how their members are, made and deleted."""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from penstock.actions import certificate as certificate_actions
from penstock.actions import load_balancer as balancer_actions
from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions.load_balancer import NewLoadBalancer
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_make
from penstock.console.names import checked_name
from penstock.console.paging import paged
from penstock.domain.load_balancer import LOAD_BALANCER_STATE_SENTENCES, Algorithm, CheckKind, Mode
from penstock.domain.security_group import PORT_MAX
from penstock.store.rows import Row
from penstock.store.schema import port, security_group, subnet

BADGES = {"active": "good", "degraded": "bad", "starting": "busy", "waiting": "busy", "deleting": "busy"}


def list_load_balancers(visit: Visit) -> Response:
    """Show the load balancers, and a form to make one."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    listed = paged(
        visit,
        lambda after, limit: balancer_actions.list_page(
            visit.context, visit.actor, network_id=None, name=None, after=after, limit=limit
        ),
    )
    may_add = may_make(visit.actor, "load_balancer:create")
    return visit.page(
        "load_balancers.html",
        error.status if error else 200,
        balancers=listed.rows,
        badges=BADGES,
        after=listed.after,
        more=listed.more,
        may_make=may_add,
        choices=_choices(visit) if may_add else {},
        algorithms=[(one.value, one.value) for one in Algorithm],
        modes=[(one.value, one.value) for one in Mode],
        error=error,
        field=visit.field,
    )


def _choices(visit: Visit) -> dict[str, list[tuple[str, str]]]:
    """Return what a form may name, with the words for it: subnets, security groups, certificates."""

    def parts(table: Any) -> list[Any]:
        return network_part.list_page(
            visit.context, visit.actor, table, network_id=None, after=None, limit=limits.PAGE_MAX
        )

    certificates = certificate_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    none = [("", "none")]
    return {
        "subnets": [(one["id"], f"{one['name']} {one['prefix']}") for one in parts(subnet)],
        "groups": none + [(one["id"], one["name"]) for one in parts(security_group)],
        "certificates": none + [(one["id"], one["name"]) for one in certificates],
    }


def make(visit: Visit) -> Response:
    """Make a load balancer with one listener."""
    try:
        path = visit.field("check") or None
        row = balancer_actions.create(
            visit.context,
            visit.actor,
            NewLoadBalancer(
                subnet_id=visit.field("subnet"),
                name=checked_name(visit.field("name")),
                description="",
                address=None,
                security_group_ids=[visit.field("group")] if visit.field("group") else [],
                algorithm=_one_of(visit.field("algorithm"), list(Algorithm), "algorithm"),
                listeners=[
                    {
                        "port": _port(visit.field("port"), "port"),
                        "mode": _one_of(visit.field("mode"), list(Mode), "mode"),
                        "certificate_id": visit.field("certificate") or None,
                    }
                ],
                members=_members(visit),
                health_check={
                    "kind": CheckKind.TCP.value if path is None else CheckKind.HTTP.value,
                    "path": path,
                    "interval_ms": 2_000,
                    "rise": 2,
                    "fall": 3,
                },
            ),
        )
    except PenstockError as error:
        return _list(visit, error)
    return visit.go(f"/load-balancers/{row['id']}", f"'{row['name']}' is made.")


def _members(visit: Visit) -> list[dict[str, Any]]:
    """Return the members of a form: an address or a port's name with a port number, one a line or apart by commas."""
    words = visit.field("members").replace(",", " ").split()
    if len(words) > limits.MEMBERS_PER_BALANCER_MAX:
        raise InvalidInputError(f"at most {limits.MEMBERS_PER_BALANCER_MAX} members", field="members")
    return [{**member_at(word, lambda name: _port_named(visit, name)), "weight": 1} for word in words]


def member_at(word: str, port_named: Callable[[str], str | None]) -> dict[str, Any]:
    """Return who ``web-1:8080`` or ``10.0.0.9:8080`` is; InvalidInputError names the field ``members``."""
    host, _, number = word.rpartition(":")
    at: dict[str, Any] = {"port_id": None, "vm_id": None, "address": None, "port": _port(number, "members")}
    if all(part.isdigit() for part in host.split(".")):
        return {**at, "address": host}
    port_id = port_named(host)
    if port_id is None:
        raise InvalidInputError(
            f"'{host[:63]}' is no port of this network; give its address", field="members"
        )
    return {**at, "port_id": port_id}


def _port_named(visit: Visit, name: str) -> str:
    rows = network_part.list_page(
        visit.context, visit.actor, port, network_id=None, after=None, limit=2, equal={"name": name}
    )
    if len(rows) != 1:
        raise InvalidInputError(
            f"'{name[:64]}' is the name of no port, or of several; give its address", field="members"
        )
    return str(rows[0]["id"])


def _port(text: str, field: str) -> int:
    number = int(text) if text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= PORT_MAX:
        raise InvalidInputError(f"a port is a number from 1 to {PORT_MAX}", field=field)
    return number


def _one_of(text: str, allowed: list[Any], field: str) -> str:
    if text not in allowed:
        raise InvalidInputError(f"choose one of {', '.join(allowed)}", field=field)
    return text


def show(visit: Visit) -> Response:
    """Show one load balancer with the health of its members and its counters."""
    row = balancer_actions.show(visit.context, visit.actor, visit.path("load_balancer_id"))
    return visit.page(
        "load_balancer.html",
        balancer=row,
        network=network_actions.show(visit.context, visit.actor, row["network_id"])["name"],
        badge=BADGES[row["state"]],
        sentence=row["reason"] or LOAD_BALANCER_STATE_SENTENCES[row["state"]],
        ports={one["id"]: one["name"] for one in _parts_of(visit, row["network_id"])},
        certificates=_certificate_names(visit),
        may_update=row["wanted"] == "present"
        and visit.actor.may("load_balancer:update", row["tenant_id"], row["project_id"]),
        may_delete=row["wanted"] == "present"
        and visit.actor.may("load_balancer:delete", row["tenant_id"], row["project_id"]),
    )


def _parts_of(visit: Visit, network_id: str) -> list[Row]:
    return network_part.list_page(
        visit.context,
        visit.actor,
        port,
        network_id=network_id,
        after=None,
        limit=limits.PORTS_PER_NETWORK_MAX,
    )


def _certificate_names(visit: Visit) -> dict[str, str]:
    rows = certificate_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    return {one["id"]: one["name"] for one in rows}


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    row = balancer_actions.show(visit.context, visit.actor, visit.path("load_balancer_id"))
    visit.actor.require("load_balancer:delete", row["tenant_id"], row["project_id"])
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=[
            f"{row['open_sessions']} connections that it has now end, and its address and name go. This cannot be undone.",
            "Its members and its certificates stay. It is refused while a floating address leads to it.",
        ],
        action=f"/load-balancers/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=(f"/load-balancers/{row['id']}", row["name"]),
        dangerous=True,
    )


def delete(visit: Visit) -> Response:
    """Delete a load balancer."""
    row = balancer_actions.delete(visit.context, visit.actor, visit.path("load_balancer_id"))
    return visit.go("/load-balancers", f"'{row['name']}' is being deleted.")


routes = [
    get("/load-balancers", list_load_balancers),
    post("/load-balancers", make),
    get("/load-balancers/{load_balancer_id}", show),
    get("/load-balancers/{load_balancer_id}/delete", ask_delete),
    post(
        "/load-balancers/{load_balancer_id}/delete",
        delete,
        proof_at="/load-balancers/{load_balancer_id}/delete",
    ),
]
