"""Private networks: what they are, what is in them, made and deleted. Rules and ports are changed by API and command."""

from starlette.responses import Response

from penstock.actions import flow as flow_actions
from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions import network_peering as peering_actions
from penstock.actions import security_group as group_actions
from penstock.actions import subnet as subnet_actions
from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.console.projects import in_use, seen_projects
from penstock.domain.network import MTU_DEFAULT
from penstock.domain.subnet import check_prefix
from penstock.store.rows import Row
from penstock.store.schema import port, subnet

PREFIX = "10.0.0.0/24"
_FLOWS = 20  # on a network's page, the newest


def list_networks(visit: Visit) -> Response:
    """Show the networks."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    rows = network_actions.list_page(
        visit.context,
        visit.actor,
        project_id=None,
        name=None,
        after=visit.query("after") or None,
        limit=limits.PAGE_DEFAULT + 1,
    )
    shown = rows[: limits.PAGE_DEFAULT]
    projects = seen_projects(visit)
    return visit.page(
        "networks.html",
        error.status if error else 200,
        networks=shown,
        more=shown[-1]["id"] if len(rows) > len(shown) else None,
        after=visit.query("after") or None,
        projects=in_use(projects),
        project_names={one["id"]: one["name"] for one in projects},
        may_make=visit.actor.tenant_id is not None and may_see(visit.actor, "network:create"),
        error=error,
        field=visit.field,
        prefix=PREFIX,
    )


def make(visit: Visit) -> Response:
    """Make a network with its first subnet."""
    row: Row | None = None
    try:
        check_prefix(visit.field("prefix"))  # first, so that no network is left over that nobody asked for
        row = network_actions.create(
            visit.context,
            visit.actor,
            project_id=visit.field("project"),
            name=checked_name(visit.field("name")),
            description=visit.field("description")[: limits.TEXT_CHARACTERS_MAX],
            mtu=MTU_DEFAULT,
            dns_zone=None,
            dns_forwarders=[],
        )
        subnet_actions.create(
            visit.context,
            visit.actor,
            network_id=row["id"],
            name="first",
            description="",
            prefix=visit.field("prefix"),
            dhcp_options={},
            acl=[],
        )
    except PenstockError as error:
        if row is not None:
            network_actions.delete(visit.context, visit.actor, row["id"])
        return _list(visit, error)
    return visit.go(f"/networks/{row['id']}", f"'{row['name']}' is made.")


def show(visit: Visit) -> Response:
    """Show one network with its subnets, ports, security groups and peerings."""
    return page(visit, visit.path("network_id"))


def page(visit: Visit, network_id: str, error: PenstockError | None = None) -> Response:
    """Return the page of one network, with what was wrong about what was asked for there."""
    row = network_actions.show(visit.context, visit.actor, network_id)
    parts = {
        table.name: network_part.list_page(
            visit.context,
            visit.actor,
            table,
            network_id=row["id"],
            after=None,
            limit=limits.PAGE_DEFAULT,
        )
        for table in (subnet, port)
    }
    groups = group_actions.list_page(
        visit.context, visit.actor, network_id=row["id"], name=None, after=None, limit=limits.PAGE_DEFAULT
    )
    peerings = peering_actions.list_page(
        visit.context,
        visit.actor,
        network_id=row["id"],
        name=None,
        state=None,
        after=None,
        limit=limits.PAGE_DEFAULT,
    )
    flows = flow_actions.list_page(
        visit.context,
        visit.actor,
        equal={"network_id": row["id"]},
        since=None,
        until=None,
        before=None,
        limit=_FLOWS,
    )
    return visit.page(
        "network.html",
        error.status if error else 200,
        network=row,
        peerings=peerings,
        flows=flows,
        port_names={one["id"]: one["name"] for one in parts["port"]},
        may_peer=row["wanted"] == "active"
        and visit.actor.may("network_peering:create", row["tenant_id"], row["project_id"]),
        error=error,
        field=visit.field,
        subnets=parts["subnet"],
        ports=parts["port"],
        groups=groups,
        subnet_names={one["id"]: one["name"] for one in parts["subnet"]},
        may_delete=row["wanted"] == "active"
        and visit.actor.may("network:delete", row["tenant_id"], row["project_id"]),
    )


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    row = network_actions.show(visit.context, visit.actor, visit.path("network_id"))
    visit.actor.require("network:delete", row["tenant_id"], row["project_id"])
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=[
            "Its subnets, security groups and names go with it. This cannot be undone.",
            "It is refused while it has ports or addresses of a pool, so nothing that runs loses its network.",
            "Networks have no price; nothing on the bill changes.",
        ],
        action=f"/networks/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=(f"/networks/{row['id']}", row["name"]),
        dangerous=True,
    )


def delete(visit: Visit) -> Response:
    """Delete a network."""
    row = network_actions.delete(visit.context, visit.actor, visit.path("network_id"))
    return visit.go("/networks", f"'{row['name']}' is being deleted.")


routes = [
    get("/networks", list_networks),
    post("/networks", make),
    get("/networks/{network_id}", show),
    get("/networks/{network_id}/delete", ask_delete),
    post("/networks/{network_id}/delete", delete),
]
