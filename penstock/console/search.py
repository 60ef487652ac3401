"""Search: everything one may see, from anywhere with Ctrl-K, or as a page of its own."""

from starlette.responses import Response

from penstock.actions import search as search_actions
from penstock.console.edge import Visit, get
from penstock.console.menu import menu_for

PATHS = {
    "service": "/services/{id}",
    "offer": "/catalogue/{id}",
    "api_key": "/keys",
    "knowledge_base": "/knowledge/{id}",
    "network": "/networks/{id}",
    "load_balancer": "/load-balancers/{id}",
    "document": "/documents/{id}",
    "project": "/members",
    "user": "/members",
    "invoice": "/invoices/{id}",
    "tenant": "/tenants/{id}",
    "node": "/nodes/{id}",
    "device": "/devices/{id}",
    "agent": "/agents",
    "reservation": "/reservations/{id}",
    "vm": "/machines/{id}",
    "image": "/images/{id}",
    "volume": "/volumes/{id}",
    "certificate": "/certificates/{id}",
    "ssh_key": "/ssh-keys",
}


def find(visit: Visit) -> Response:
    """Show what a word finds; the palette asks for the list alone."""
    word = visit.query("q")
    pages = [
        item for group in menu_for(visit.actor) for item in group.items if word.lower() in item.name.lower()
    ]
    found = [(thing, _path(visit, thing)) for thing in search_actions.find(visit.context, visit.actor, word)]
    if "hx-request" in visit.request.headers:
        return visit.part("search_part.html", word=word, pages=pages, found=found)
    return visit.page("search.html", word=word, pages=pages, found=found)


def _path(visit: Visit, thing: search_actions.Found) -> str:
    if thing.noun == "offer" and visit.actor.tenant_id is None:
        return f"/offers/{thing.id}"
    return PATHS[thing.noun].format(id=thing.id)


routes = [get("/search", find)]
