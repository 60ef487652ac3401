"""Private networks: what they are, what is in them; made, changed and deleted. Its parts have modules of their own."""

from starlette.responses import Response

from penstock.actions import flow as flow_actions
from penstock.actions import network as network_actions
from penstock.actions import network_peering as peering_actions
from penstock.actions import subnet as subnet_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.console import confirm, network_part
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_make
from penstock.console.names import checked_name
from penstock.console.paging import paged
from penstock.console.port import owners
from penstock.console.projects import in_use, seen_projects
from penstock.console.sheet import REFUSED, Box, Sheet, fill, one_of, text_of
from penstock.domain.flow import FlowLog
from penstock.domain.network import MTU_DEFAULT
from penstock.domain.subnet import check_prefix
from penstock.store.rows import Row
from penstock.store.schema import dns_record, network_route, port, subnet

PREFIX = "10.0.0.0/24"
_FLOWS = 10  # on a network's page, the newest
_PORTS = 200


def list_networks(visit: Visit) -> Response:
    """Show the networks."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    listed = paged(
        visit,
        lambda after, limit: network_actions.list_page(
            visit.context, visit.actor, project_id=None, name=None, after=after, limit=limit
        ),
    )
    projects = seen_projects(visit)
    return visit.page(
        "networks.html",
        error.status if error else 200,
        networks=listed.rows,
        more=listed.more,
        after=listed.after,
        projects=in_use(projects),
        project_names={one["id"]: one["name"] for one in projects},
        may_make=may_make(visit.actor, "network:create"),
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
        table.name: network_part.parts_of(visit, table, row["id"])
        for table in (subnet, port, network_route, dns_record)
    }
    groups = network_part.groups_of(visit, row["id"])
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

    def may(permission: str) -> bool:
        return row["wanted"] == "active" and visit.actor.may(permission, row["tenant_id"], row["project_id"])

    return visit.page(
        "network.html",
        error.status if error else 200,
        network=row,
        peerings=peerings,
        flows=flows,
        port_names={one["id"]: one["name"] for one in parts["port"]},
        may=may,
        error=error,
        field=visit.field,
        subnets=parts["subnet"],
        ports=parts["port"][:_PORTS],
        port_count=len(parts["port"]),
        owners=owners(visit, row["id"], parts["port"][:_PORTS]),
        routes=parts["network_route"],
        names=parts["dns_record"],
        groups=groups,
        group_names={one["id"]: one["name"] for one in groups},
        subnet_names={one["id"]: one["name"] for one in parts["subnet"]},
    )


def _edit(row: Row) -> Sheet:
    return Sheet(
        f"Change {row['name']}",
        "Its hosts follow within seconds.",
        f"/networks/{row['id']}/edit",
        "Change it",
        network_part.way(row),
        [
            Box("description", "Description", value=row["description"], required=False),
            Box(
                "dns_forwarders",
                "Name servers",
                value=", ".join(row["dns_forwarders"]),
                hint=f"Addresses that are asked for names outside {row['dns_zone']}, apart by commas; at most "
                f"{limits.DNS_FORWARDERS_MAX}. Empty: its guests find no names outside.",
                required=False,
            ),
            Box("flow_log", "Flows that are kept", "choose", options=_LOGS, value=row["flow_log"]),
        ],
    )


_LOGS = (
    (FlowLog.DROPS, "those that were dropped"),
    (FlowLog.ALL, "all: what was dropped and what began"),
    (FlowLog.NONE, "none"),
)


def ask_change(visit: Visit) -> Response:
    """Show what may be changed about a network."""
    return fill(visit, _edit(network_part.network_for(visit, "network:update")))


def change(visit: Visit) -> Response:
    """Change description, name servers or flow log of a network."""
    row = network_part.network_for(visit, "network:update")
    try:
        forwarders = text_of(visit, "dns_forwarders").replace(",", " ").split()
        if len(forwarders) > limits.DNS_FORWARDERS_MAX:
            raise InvalidInputError(
                f"at most {limits.DNS_FORWARDERS_MAX} name servers", field="dns_forwarders"
            )
        values = {
            "description": text_of(visit, "description"),
            "dns_forwarders": forwarders,
            "flow_log": one_of(visit, "flow_log", FlowLog),
        }
        network_actions.update(visit.context, visit.actor, row["id"], values)
    except REFUSED as error:
        return fill(visit, _edit(row), error)
    return visit.go(f"/networks/{row['id']}", f"'{row['name']}' is being changed.")


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
    get("/networks/{network_id}/edit", ask_change),
    post("/networks/{network_id}/edit", change),
    get("/networks/{network_id}/delete", ask_delete),
    post("/networks/{network_id}/delete", delete, proof_at="/networks/{network_id}/delete"),
]
