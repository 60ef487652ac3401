"""Peerings at the console: shown on a network's page, asked for there, answered and ended."""

from starlette.responses import Response

from penstock.actions import network_peering as peering_actions
from penstock.base import limits
from penstock.base.errors import ConflictError, PenstockError
from penstock.console import confirm, network
from penstock.console.edge import Visit, get, post
from penstock.console.names import checked_name


def request(visit: Visit) -> Response:
    """Ask for a peering of this network with the one whose id is given."""
    network_id = visit.path("network_id")
    try:
        row = peering_actions.request(
            visit.context,
            visit.actor,
            network_id=network_id,
            peer_network_id=visit.field("peer_network_id").strip(),
            name=checked_name(visit.field("name")),
            description=visit.field("description")[: limits.TEXT_CHARACTERS_MAX],
        )
    except PenstockError as error:
        return network.page(visit, network_id, error)
    return visit.go(f"/networks/{network_id}", f"'{row['name']}' is asked for; the other side answers.")


def _back(visit: Visit, row: dict[str, object]) -> str:
    """Return the page of the visitor's own network of a peering."""
    mine = visit.actor.tenant_id in (None, row["tenant_id"])
    return f"/networks/{row['network_id' if mine else 'peer_network_id']}"


def accept(visit: Visit) -> Response:
    """Accept for the network that was asked."""
    row = peering_actions.show(visit.context, visit.actor, visit.path("peering_id"))
    try:
        peering_actions.accept(visit.context, visit.actor, row["id"])
    except ConflictError as error:
        return network.page(visit, row["peer_network_id"], error)
    return visit.go(f"/networks/{row['peer_network_id']}", f"'{row['name']}' is accepted.")


def refuse(visit: Visit) -> Response:
    """Refuse for the network that was asked."""
    row = peering_actions.show(visit.context, visit.actor, visit.path("peering_id"))
    peering_actions.refuse(visit.context, visit.actor, row["id"])
    return visit.go(f"/networks/{row['peer_network_id']}", f"'{row['name']}' is refused.")


def ask_delete(visit: Visit) -> Response:
    """Say what ending does."""
    row = peering_actions.show(visit.context, visit.actor, visit.path("peering_id"))
    return confirm.ask(
        visit,
        title=f"End the peering {row['name']}?",
        effects=[
            "What runs between the two networks is cut within seconds; nothing else changes.",
            "To have it again, one side must ask and the other accept.",
        ],
        action=f"/network-peerings/{row['id']}/delete",
        button=f"End {row['name']}",
        back=(_back(visit, row), "its network"),
    )


def delete(visit: Visit) -> Response:
    """End a peering, or take a request back."""
    row = peering_actions.show(visit.context, visit.actor, visit.path("peering_id"))
    peering_actions.delete(visit.context, visit.actor, row["id"])
    return visit.go(_back(visit, row), f"'{row['name']}' is gone.")


routes = [
    post("/networks/{network_id}/peerings", request),
    post("/network-peerings/{peering_id}/accept", accept),
    post("/network-peerings/{peering_id}/refuse", refuse),
    get("/network-peerings/{peering_id}/delete", ask_delete),
    post("/network-peerings/{peering_id}/delete", delete),
]
