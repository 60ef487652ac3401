"""Floating addresses at the console: taken, pointed at a port, given back; and the way out of a network."""

from starlette.responses import Response

from penstock.actions import address_pool as pool_actions
from penstock.actions import floating_address as address_actions
from penstock.actions import network as network_actions
from penstock.actions import network_part as part_actions
from penstock.base import limits
from penstock.console import confirm, network_part
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_make, may_see
from penstock.console.names import checked_name
from penstock.console.paging import paged
from penstock.console.projects import in_use, seen_projects
from penstock.console.sheet import REFUSED, Box, Sheet, fill, name_box, project_box, text_of
from penstock.store.rows import Row
from penstock.store.schema import floating_address, port

LISTS = ("/floating-addresses", "Floating addresses")


def list_addresses(visit: Visit) -> Response:
    """Show the floating addresses and where they lead."""
    listed = paged(
        visit,
        lambda after, limit: part_actions.list_page(
            visit.context, visit.actor, floating_address, network_id=None, after=after, limit=limit
        ),
    )
    projects = seen_projects(visit)
    return visit.page(
        "floating_addresses.html",
        addresses=listed.rows,
        after=listed.after,
        more=listed.more,
        project_names={one["id"]: one["name"] for one in projects},
        ports={one["id"]: one["name"] for one in network_part.parts_of(visit, port, None)},
        networks={one["id"]: one["name"] for one in _networks(visit)},
        pools=_pools(visit),
        may_make=may_make(visit.actor, "floating_address:create"),
        may={
            one["id"]: visit.actor.may("floating_address:update", one["tenant_id"], one["project_id"])
            for one in listed.rows
        },
    )


def _networks(visit: Visit) -> list[Row]:
    return network_actions.list_page(
        visit.context, visit.actor, project_id=None, name=None, after=None, limit=limits.PAGE_MAX
    )


def _pools(visit: Visit) -> list[tuple[str, str]]:
    if not may_see(visit.actor, "address_pool:read"):
        return []
    rows = pool_actions.every_pool(visit.context, visit.actor)
    return [(one["id"], f"{one['name']} {one['prefix']}") for one in rows]


def _pool_box(visit: Visit, value: str = "", first: tuple[tuple[str, str], ...] = ()) -> Box:
    pools = _pools(visit)
    hint = "" if pools else "There is none yet: the factory's operator makes one."
    return Box("pool_id", "Pool", "choose", options=[*first, *pools], value=value, hint=hint)


def _new(visit: Visit) -> Sheet:
    return Sheet(
        "Take a floating address",
        "An address of the outside that leads to one port, and to another one later.",
        "/floating-addresses",
        "Take it",
        [LISTS],
        [
            name_box(),
            project_box(in_use(seen_projects(visit))),
            _pool_box(visit),
            Box("description", "Description", required=False),
        ],
    )


def ask_new(visit: Visit) -> Response:
    """Ask of which pool to take an address."""
    if not may_make(visit.actor, "floating_address:create"):
        visit.actor.require("floating_address:create", visit.actor.tenant_id)
    return fill(visit, _new(visit))


def make(visit: Visit) -> Response:
    """Take an address."""
    try:
        row = address_actions.create(
            visit.context,
            visit.actor,
            project_id=visit.field("project_id"),
            pool_id=visit.field("pool_id"),
            name=checked_name(visit.field("name")),
            description=text_of(visit, "description"),
        )
    except REFUSED as error:
        return fill(visit, _new(visit), error)
    return visit.go("/floating-addresses", f"{row['address']} is yours; point it at a port.")


def _found(visit: Visit, permission: str) -> Row:
    row = part_actions.show(visit.context, visit.actor, floating_address, visit.path("address_id"))
    visit.actor.require(permission, row["tenant_id"], row["project_id"])
    return row


def _pointing(visit: Visit, row: Row) -> Sheet:
    networks = {one["id"]: one["name"] for one in _networks(visit)}
    ports = [
        (one["id"], f"{one['name']} {one['address']} in {networks.get(one['network_id'], '')}")
        for one in network_part.parts_of(visit, port, None)
        if one["project_id"] == row["project_id"]
    ]
    return Sheet(
        f"Where {row['address']} leads",
        "It moves within seconds; connections through it end.",
        f"/floating-addresses/{row['id']}/port",
        "Point it there",
        [LISTS],
        [
            Box(
                "port_id",
                "To",
                "choose",
                options=[("", "nothing"), *ports],
                value=row["port_id"] or "",
                hint="Security groups decide who gets through.",
            )
        ],
    )


def ask_point(visit: Visit) -> Response:
    """Ask where an address is to lead."""
    return fill(visit, _pointing(visit, _found(visit, "floating_address:update")))


def point(visit: Visit) -> Response:
    """Let an address lead to a port, or to nothing."""
    row = _found(visit, "floating_address:update")
    try:
        address_actions.point(visit.context, visit.actor, row["id"], visit.field("port_id") or None)
    except REFUSED as error:
        return fill(visit, _pointing(visit, row), error)
    return visit.go("/floating-addresses", f"{row['address']} moves within seconds.")


def ask_delete(visit: Visit) -> Response:
    """Say what giving back does."""
    row = _found(visit, "floating_address:delete")
    return confirm.ask(
        visit,
        title=f"Give {row['address']} back?",
        effects=[
            "Somebody else may get it next; what still names it leads there then.",
            "It is refused while it leads to a port.",
        ],
        action=f"/floating-addresses/{row['id']}/delete",
        button=f"Give {row['address']} back",
        back=LISTS,
    )


def delete(visit: Visit) -> Response:
    """Give an address back."""
    row = _found(visit, "floating_address:delete")
    address_actions.delete(visit.context, visit.actor, row["id"])
    return visit.go("/floating-addresses", f"{row['address']} is given back.")


def _way_out(visit: Visit, network: Row) -> Sheet:
    now = network["egress_address"]
    return Sheet(
        f"The way out of {network['name']}",
        f"Its guests go out as {now}." if now else "Its guests reach nothing outside yet.",
        f"/networks/{network['id']}/way-out",
        "Say so",
        network_part.way(network),
        [_pool_box(visit, network["egress_pool_id"] or "", (("", "none: nobody goes out"),))],
        [
            "All of its guests go out by one address of the pool, which stays; nobody comes in by it.",
            "Without a way out, connections to the outside end.",
        ],
    )


def ask_way_out(visit: Visit) -> Response:
    """Ask by which pool a network goes out."""
    return fill(visit, _way_out(visit, network_part.network_for(visit, "network:update")))


def way_out(visit: Visit) -> Response:
    """Open, change or close the way out of a network."""
    network = network_part.network_for(visit, "network:update")
    try:
        row = address_actions.set_way_out(
            visit.context, visit.actor, network["id"], visit.field("pool_id") or None
        )
    except REFUSED as error:
        return fill(visit, _way_out(visit, network), error)
    said = f"goes out as {row['egress_address']}" if row["egress_address"] else "has no way out any more"
    return visit.go(f"/networks/{network['id']}", f"'{network['name']}' {said}.")


_ONE = "/floating-addresses/{address_id}"
routes = [
    get("/floating-addresses", list_addresses),
    get("/floating-addresses/new", ask_new),
    post("/floating-addresses", make),
    get(f"{_ONE}/port", ask_point),
    post(f"{_ONE}/port", point),
    get(f"{_ONE}/delete", ask_delete),
    post(f"{_ONE}/delete", delete),
    get("/networks/{network_id}/way-out", ask_way_out),
    post("/networks/{network_id}/way-out", way_out),
]
