"""Routes of a network at the console: prefixes that are reached through a guest; made and deleted."""

from starlette.responses import Response

from penstock.actions import network_route as route_actions
from penstock.console import network_part
from penstock.console.edge import Visit, get, post
from penstock.console.names import checked_name
from penstock.console.sheet import REFUSED, Box, Sheet, fill, name_box, text_of
from penstock.store.rows import Row
from penstock.store.schema import network_route, port


def _new(visit: Visit, network: Row) -> Sheet:
    ports = network_part.parts_of(visit, port, network["id"])
    return Sheet(
        f"Add a route to {network['name']}",
        "A prefix that is reached through a guest, which may then send as it.",
        f"/networks/{network['id']}/routes",
        "Add it",
        network_part.way(network),
        [
            name_box(),
            Box(
                "prefix",
                "Prefix",
                hint="As in 192.168.0.0/16; outside the network's subnets.",
                characters_max=18,
            ),
            Box(
                "port_id",
                "Through the port",
                "choose",
                options=[(one["id"], f"{one['name']} {one['address']}") for one in ports],
                hint="" if ports else "There is none yet: add a port first.",
            ),
            Box("description", "Description", required=False),
        ],
    )


def ask_new(visit: Visit) -> Response:
    """Ask what route to make."""
    return fill(visit, _new(visit, network_part.network_for(visit, "network_route:create")))


def make(visit: Visit) -> Response:
    """Make a route."""
    network = network_part.network_for(visit, "network_route:create")
    try:
        row = route_actions.create(
            visit.context,
            visit.actor,
            network_id=network["id"],
            name=checked_name(visit.field("name")),
            prefix=text_of(visit, "prefix", 18),
            port_id=visit.field("port_id"),
            description=text_of(visit, "description"),
        )
    except REFUSED as error:
        return fill(visit, _new(visit, network), error)
    return visit.go(f"/networks/{network['id']}", f"{row['prefix']} goes that way within seconds.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    return network_part.ask_delete(
        visit, network_route, "/network-routes", ["Its prefix is not reached from this network any more."]
    )


def delete(visit: Visit) -> Response:
    """Delete a route."""
    return network_part.delete(visit, network_route, route_actions.delete)


routes = [
    get("/networks/{network_id}/routes/new", ask_new),
    post("/networks/{network_id}/routes", make),
    get("/network-routes/{network_route_id}/delete", ask_delete),
    post("/network-routes/{network_route_id}/delete", delete),
]
