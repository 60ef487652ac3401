"""Ports at the console: made, what belongs to one and what went through it, how much it may send, deleted."""

from starlette.responses import Response

from penstock.actions import flow as flow_actions
from penstock.actions import load_balancer as balancer_actions
from penstock.actions import port as port_actions
from penstock.actions import vm as vm_actions
from penstock.base import limits
from penstock.console import network_part
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.console.sheet import REFUSED, Box, Sheet, chosen, fill, name_box, named, number_of, text_of
from penstock.store.rows import Row
from penstock.store.schema import floating_address, port, security_group, subnet

KBIT_MIN, KBIT_MAX = 8, 1_000_000_000  # as the API has it


def owners(visit: Visit, network_id: str, ports: list[Row]) -> dict[str, tuple[str, str]]:
    """Return the page and the name of what each port belongs to, by the port's id; those of nobody are left out."""
    found: dict[str, tuple[str, str]] = {}
    if may_see(visit.actor, "load_balancer:read"):
        rows = balancer_actions.list_page(
            visit.context, visit.actor, network_id=network_id, name=None, after=None, limit=limits.PAGE_MAX
        )
        for one in rows:
            found[one["port_id"]] = f"/load-balancers/{one['id']}", f"the load balancer {one['name']}"
    machines: dict[str, str] = {}
    if any(one["service_id"] for one in ports) and may_see(visit.actor, "vm:read"):
        listed = vm_actions.list_page(
            visit.context, visit.actor, vm_actions.Filters(), after=None, limit=limits.PAGE_MAX
        )
        machines = {one["service_id"]: one["name"] for one in listed}
    for one in ports:
        service_id = one["service_id"]
        if service_id in machines:
            found[one["id"]] = f"/machines/{service_id}", f"the machine {machines[service_id]}"
        elif service_id is not None:
            found[one["id"]] = f"/services/{service_id}", "its service"
    return found


def _new(visit: Visit, network: Row) -> Sheet:
    subnets = network_part.parts_of(visit, subnet, network["id"])
    groups = network_part.parts_of(visit, security_group, network["id"])
    return Sheet(
        f"Add a port to {network['name']}",
        "A place for a guest with an address that stays; a machine is launched with it, or something else is plugged in.",
        f"/networks/{network['id']}/ports",
        "Add it",
        network_part.way(network),
        [
            name_box(),
            Box(
                "subnet_id",
                "Subnet",
                "choose",
                options=[(one["id"], f"{one['name']} {one['prefix']}") for one in subnets],
                hint="" if subnets else "There is none yet: add a subnet first.",
            ),
            Box(
                "address",
                "Address",
                required=False,
                hint="Empty: the lowest that is free.",
                characters_max=15,
            ),
            Box(
                "security_group_ids",
                "Security groups",
                "pick",
                options=named(groups),
                required=False,
                hint="Without any it is reached by nobody and reaches everybody.",
            ),
            _limit_box(),
            Box("description", "Description", required=False),
        ],
    )


def _limit_box(value: int | None = None) -> Box:
    return Box(
        "egress_kbit_per_second",
        "May send (kbit/s)",
        "number",
        value="" if value is None else value,
        minimum=KBIT_MIN,
        maximum=KBIT_MAX,
        required=False,
        hint="What is more is dropped. Empty: as much as there is.",
    )


def _limit(visit: Visit) -> int | None:
    name = "egress_kbit_per_second"
    return number_of(visit, name, KBIT_MIN, KBIT_MAX) if visit.field(name) else None


def ask_new(visit: Visit) -> Response:
    """Ask what port to make."""
    return fill(visit, _new(visit, network_part.network_for(visit, "port:create")))


def make(visit: Visit) -> Response:
    """Make a port."""
    network = network_part.network_for(visit, "port:create")
    try:
        row = port_actions.create(
            visit.context,
            visit.actor,
            subnet_id=visit.field("subnet_id"),
            name=checked_name(visit.field("name")),
            description=text_of(visit, "description"),
            address=text_of(visit, "address", 15) or None,
            security_group_ids=chosen(visit, "security_group_ids", limits.VM_GROUPS_MAX),
            egress_kbit_per_second=_limit(visit),
        )
    except REFUSED as error:
        return fill(visit, _new(visit, network), error)
    return visit.go(f"/ports/{row['id']}", f"'{row['name']}' has the address {row['address']}.")


def show(visit: Visit) -> Response:
    """Show one port."""
    row, network = network_part.found(visit, port)
    groups = network_part.groups_of(visit, network["id"])
    outside = network_part.parts_of(visit, floating_address, network["id"])
    subnets = {one["id"]: one for one in network_part.parts_of(visit, subnet, network["id"])}
    own = {row["id"]: "this port", row["subnet_id"]: "its subnet", network["id"]: "the network"}
    own |= {row["service_id"]: "its service", row["node_id"]: "its host"}
    return visit.page(
        "port.html",
        port=row,
        network=network,
        subnet=subnets[row["subnet_id"]],
        owner=owners(visit, network["id"], [row]).get(row["id"]),
        holding=[
            (group, own[one["target_id"]])
            for group in groups
            for one in group["bindings"]
            if one["target_id"] in own
        ],
        outside=[one for one in outside if one["port_id"] == row["id"]],
        counters=flow_actions.counters(visit.context, visit.actor, row["id"]),
        may_update=visit.actor.may("port:update", row["tenant_id"], row["project_id"]),
        may_delete=visit.actor.may("port:delete", row["tenant_id"], row["project_id"]),
    )


def _limiting(row: Row, network: Row) -> Sheet:
    return Sheet(
        f"How much {row['name']} may send",
        "It holds on its host within seconds; connections go on.",
        f"/ports/{row['id']}/limit",
        "Say so",
        [*network_part.way(network), (f"/ports/{row['id']}", row["name"])],
        [_limit_box(row["egress_kbit_per_second"])],
    )


def ask_limit(visit: Visit) -> Response:
    """Ask how much a port may send."""
    return fill(visit, _limiting(*network_part.found(visit, port, "port:update")))


def limit(visit: Visit) -> Response:
    """Say how much a port may send."""
    row, network = network_part.found(visit, port, "port:update")
    try:
        port_actions.update(visit.context, visit.actor, row["id"], egress_kbit_per_second=_limit(visit))
    except REFUSED as error:
        return fill(visit, _limiting(row, network), error)
    return visit.go(f"/ports/{row['id']}", "It may send as much as you say.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    effects = [
        "Its address is free for others.",
        "It is refused while it belongs to a machine or a load balancer, or an address or a route leads to it.",
    ]
    return network_part.ask_delete(visit, port, "/ports", effects)


def delete(visit: Visit) -> Response:
    """Delete a port."""
    return network_part.delete(visit, port, port_actions.delete)


routes = [
    get("/networks/{network_id}/ports/new", ask_new),
    post("/networks/{network_id}/ports", make),
    get("/ports/{port_id}", show),
    get("/ports/{port_id}/limit", ask_limit),
    post("/ports/{port_id}/limit", limit),
    get("/ports/{port_id}/delete", ask_delete),
    post("/ports/{port_id}/delete", delete),
]
