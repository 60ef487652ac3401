"""What carries networks, for operators: the hosts, the pools of outside addresses, and what no guest may reach."""

import re

from starlette.responses import Response

from penstock.actions import address_pool as pool_actions
from penstock.actions import network_host as host_actions
from penstock.actions import node as node_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.names import checked_name
from penstock.console.node import node_named
from penstock.console.sheet import REFUSED, Box, Sheet, fill, name_box, text_of
from penstock.store.rows import Row

LISTS = ("/network-hosts", "Hosts and pools")
FORBIDDEN_MAX = 64  # as the API has it
_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")


def show(visit: Visit) -> Response:
    """Show the hosts that carry networks, the pools and the forbidden prefixes."""
    return visit.page(
        "network_hosts.html",
        hosts=host_actions.every_host(visit.context, visit.actor),
        pools=pool_actions.every_pool(visit.context, visit.actor),
        forbidden=host_actions.forbidden(visit.context, visit.actor),
        may_write=visit.actor.may("network_host:write"),
        may_make=visit.actor.may("address_pool:create"),
        may_delete=visit.actor.may("address_pool:delete"),
    )


def _host_sheet(visit: Visit) -> Sheet:
    return Sheet(
        "Let a node carry networks",
        "Guests with ports are placed only on such nodes. A node that does already is changed.",
        "/network-hosts",
        "Let it carry them",
        [LISTS],
        [
            Box("node", "Node", hint="Its name or id.", value=visit.query("node"), characters_max=63),
            Box(
                "underlay_address",
                "Its address among the hosts",
                hint="Where the other hosts reach it for VXLAN, on a network of the operator's.",
                characters_max=15,
            ),
            Box(
                "external_bridge",
                "The bridge that leads outside",
                required=False,
                hint="For floating addresses and ways out. Empty: nobody comes in or goes out there.",
                characters_max=15,
            ),
        ],
    )


def ask_host(visit: Visit) -> Response:
    """Ask which node is to carry networks."""
    visit.actor.require("network_host:write")
    return fill(visit, _host_sheet(visit))


def put_host(visit: Visit) -> Response:
    """Make a node carry networks, or change how."""
    visit.actor.require("network_host:write")
    try:
        bridge = visit.field("external_bridge")
        if bridge and not _BRIDGE.fullmatch(bridge):
            raise InvalidInputError("a bridge is named as in br-ext", field="external_bridge")
        row = host_actions.put(
            visit.context,
            visit.actor,
            node_named(visit, text_of(visit, "node", limits.NAME_CHARACTERS_MAX), "node"),
            underlay_address=text_of(visit, "underlay_address", 15),
            external_bridge=bridge or None,
            driver=None,
        )
    except REFUSED as error:
        if error.field == "driver":
            error.field = "node"
        return fill(visit, _host_sheet(visit), error)
    return visit.go("/network-hosts", f"{row['name']} carries networks.")


def _host(visit: Visit) -> Row:
    visit.actor.require("network_host:write")
    return node_actions.get(visit.context, visit.actor, visit.path("node_id"))


def ask_remove(visit: Visit) -> Response:
    """Say what taking networks off a node does."""
    row = _host(visit)
    return confirm.ask(
        visit,
        title=f"Let {row['name']} carry networks no longer?",
        effects=[
            "Guests with ports are not placed there any more.",
            "It is refused while ports are plugged in there: move its machines away first.",
        ],
        action=f"/network-hosts/{row['id']}/remove",
        button="No longer",
        back=LISTS,
    )


def remove(visit: Visit) -> Response:
    """Make a node carry networks no longer."""
    row = _host(visit)
    host_actions.remove(visit.context, visit.actor, row["id"])
    return visit.go("/network-hosts", f"{row['name']} carries networks no longer.")


def _pool_sheet() -> Sheet:
    return Sheet(
        "Make a pool of outside addresses",
        "A prefix that the external bridges of hosts lead to; tenants take floating addresses of it.",
        "/address-pools",
        "Make it",
        [LISTS],
        [
            name_box(),
            Box("prefix", "Prefix", hint="As in 203.0.113.0/24.", characters_max=18),
            Box(
                "gateway",
                "Its router",
                hint="An address of the prefix, of the network outside.",
                characters_max=15,
            ),
        ],
    )


def ask_pool(visit: Visit) -> Response:
    """Ask for a pool."""
    visit.actor.require("address_pool:create")
    return fill(visit, _pool_sheet())


def make_pool(visit: Visit) -> Response:
    """Make a pool."""
    visit.actor.require("address_pool:create")
    try:
        row = pool_actions.create(
            visit.context,
            visit.actor,
            name=checked_name(visit.field("name")),
            prefix=text_of(visit, "prefix", 18),
            gateway=text_of(visit, "gateway", 15),
        )
    except REFUSED as error:
        return fill(visit, _pool_sheet(), error)
    return visit.go("/network-hosts", f"Addresses of {row['prefix']} can be taken.")


def ask_delete_pool(visit: Visit) -> Response:
    """Say what deleting a pool does."""
    visit.actor.require("address_pool:delete")
    return confirm.ask(
        visit,
        title="Delete this pool?",
        effects=["No address of it can be taken any more. It is refused while somebody has one."],
        action=f"/address-pools/{visit.path('pool_id')}/delete",
        button="Delete it",
        back=LISTS,
    )


def delete_pool(visit: Visit) -> Response:
    """Delete a pool."""
    pool_actions.delete(visit.context, visit.actor, visit.path("pool_id"))
    return visit.go("/network-hosts", "The pool is deleted.")


def _forbidden_sheet(visit: Visit) -> Sheet:
    return Sheet(
        "What no guest may reach",
        "Your own networks: no rule of a tenant opens them. The hosts' addresses always are among them.",
        "/network-hosts/forbidden",
        "Say so",
        [LISTS],
        [
            Box(
                "prefixes",
                "Prefixes",
                "code",
                value="\n".join(host_actions.forbidden(visit.context, visit.actor)),
                hint=f"One a line, at most {FORBIDDEN_MAX}, as in 10.20.0.0/16. Every network hears it within seconds.",
                required=False,
                rows=6,
            )
        ],
    )


def ask_forbidden(visit: Visit) -> Response:
    """Show what no guest may reach, to change it."""
    visit.actor.require("network_host:write")
    return fill(visit, _forbidden_sheet(visit))


def set_forbidden(visit: Visit) -> Response:
    """Say what no guest may reach."""
    visit.actor.require("network_host:write")
    try:
        prefixes = text_of(visit, "prefixes").replace(",", " ").split()
        if len(prefixes) > FORBIDDEN_MAX:
            raise InvalidInputError(f"at most {FORBIDDEN_MAX} prefixes", field="prefixes")
        host_actions.set_forbidden(visit.context, visit.actor, prefixes)
    except REFUSED as error:
        return fill(visit, _forbidden_sheet(visit), error)
    return visit.go("/network-hosts", "No guest reaches those any more.")


routes = [
    get("/network-hosts", show),
    get("/network-hosts/new", ask_host),
    post("/network-hosts", put_host),
    get("/network-hosts/forbidden", ask_forbidden),
    post("/network-hosts/forbidden", set_forbidden),
    get("/network-hosts/{node_id}/remove", ask_remove),
    post("/network-hosts/{node_id}/remove", remove),
    get("/address-pools/new", ask_pool),
    post("/address-pools", make_pool),
    get("/address-pools/{pool_id}/delete", ask_delete_pool),
    post("/address-pools/{pool_id}/delete", delete_pool),
]
