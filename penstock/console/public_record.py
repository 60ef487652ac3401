"""Public names at the console: what a tenant says to the world in its zone; the zone itself is the operator's."""

from starlette.responses import Response

from penstock.actions import public_record as record_actions
from penstock.base.errors import InvalidInputError
from penstock.console import confirm
from penstock.console.dns_record import record_boxes
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_make
from penstock.console.paging import paged
from penstock.console.projects import in_use, seen_projects
from penstock.console.sheet import REFUSED, Box, Sheet, fill, number_of, one_of, project_box, text_of
from penstock.domain.public_record import (
    TTL_DEFAULT_SECONDS,
    TTL_SECONDS_MAX,
    TTL_SECONDS_MIN,
    PublicType,
)

LISTS = ("/public-names", "Public names")
NAME_SERVERS_MAX = 8  # as the API has it


def list_names(visit: Visit) -> Response:
    """Show the names and the zone that they stand in."""
    listed = paged(
        visit,
        lambda after, limit: record_actions.list_page(
            visit.context, visit.actor, name=None, after=after, limit=limit
        ),
    )
    served, own = record_actions.zone(visit.context, visit.actor)
    return visit.page(
        "public_names.html",
        records=listed.rows,
        served=served,
        own=own,
        after=listed.after,
        more=listed.more,
        project_names={one["id"]: one["name"] for one in seen_projects(visit)},
        may_make=may_make(visit.actor, "public_record:create") and served is not None,
        may_serve=visit.actor.tenant_id is None and visit.actor.may("public_dns:write"),
        deletable={
            one["id"]
            for one in listed.rows
            if visit.actor.may("public_record:delete", one["tenant_id"], one["project_id"])
        },
    )


def _new(visit: Visit) -> Sheet:
    _, own = record_actions.zone(visit.context, visit.actor)
    return Sheet(
        "Add a public name",
        f"The world finds it in {own}." if own else "This factory serves no public zone yet.",
        "/public-names",
        "Add it",
        [LISTS],
        [
            *record_boxes(own or "your zone", list(PublicType)),
            Box(
                "ttl_seconds",
                "Time to live (s)",
                "number",
                value=TTL_DEFAULT_SECONDS,
                minimum=TTL_SECONDS_MIN,
                maximum=TTL_SECONDS_MAX,
                hint="How long the world may remember it; the same for all of one name and kind.",
            ),
            project_box(in_use(seen_projects(visit))),
            Box("description", "Description", required=False),
        ],
    )


def ask_new(visit: Visit) -> Response:
    """Ask what name to write."""
    if not may_make(visit.actor, "public_record:create"):
        visit.actor.require("public_record:create", visit.actor.tenant_id)
    return fill(visit, _new(visit))


def make(visit: Visit) -> Response:
    """Write a name."""
    try:
        row = record_actions.create(
            visit.context,
            visit.actor,
            project_id=visit.field("project_id"),
            name=text_of(visit, "name", 190),
            kind=one_of(visit, "type", PublicType),
            value=text_of(visit, "value", 255),
            ttl_seconds=number_of(visit, "ttl_seconds", TTL_SECONDS_MIN, TTL_SECONDS_MAX),
            description=text_of(visit, "description"),
        )
    except REFUSED as error:
        return fill(visit, _new(visit), error)
    return visit.go("/public-names", f"{row['full_name']} is known to the world within seconds.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    row = record_actions.show(visit.context, visit.actor, visit.path("record_id"))
    visit.actor.require("public_record:delete", row["tenant_id"], row["project_id"])
    return confirm.ask(
        visit,
        title=f"Delete {row['full_name'] or row['name']}?",
        effects=[
            f"The world forgets that it says {row['value']} within {row['ttl_seconds']} seconds; whoever uses it then finds nothing.",
            "It can be written again.",
        ],
        action=f"/public-names/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=LISTS,
    )


def delete(visit: Visit) -> Response:
    """Remove a name."""
    row = record_actions.show(visit.context, visit.actor, visit.path("record_id"))
    record_actions.delete(visit.context, visit.actor, row["id"])
    return visit.go("/public-names", f"'{row['name']}' is deleted.")


def _zone(visit: Visit) -> Sheet:
    served, _ = record_actions.zone(visit.context, visit.actor)
    return Sheet(
        "The public zone",
        "Tenants' public names stand below it, each tenant's in a zone of its name.",
        "/public-names/zone",
        "Serve it",
        [LISTS],
        [
            Box(
                "suffix",
                "Zone",
                value=served.suffix if served else "",
                hint="One of yours, delegated to the name servers below, as in cloud.example.net. Empty: none is served; "
                "records stay.",
                required=False,
                characters_max=253,
            ),
            Box(
                "name_servers",
                "Name servers",
                "code",
                value="\n".join(served.name_servers) if served else "",
                hint="One a line, the primary one first: where penstock serve dns runs.",
                required=False,
            ),
        ],
        ["Names that stand in another zone so far are not found there any more."] if served else (),
    )


def ask_zone(visit: Visit) -> Response:
    """Ask which zone is served."""
    visit.actor.require("public_dns:write")
    return fill(visit, _zone(visit))


def set_zone(visit: Visit) -> Response:
    """Serve a zone to the world, or none."""
    visit.actor.require("public_dns:write")
    try:
        suffix = text_of(visit, "suffix", 253)
        servers = text_of(visit, "name_servers").split()
        if len(servers) > NAME_SERVERS_MAX:
            raise InvalidInputError(f"at most {NAME_SERVERS_MAX} name servers", field="name_servers")
        record_actions.set_zone(
            visit.context, visit.actor, suffix=suffix or None, name_servers=servers if suffix else []
        )
    except REFUSED as error:
        return fill(visit, _zone(visit), error)
    return visit.go("/public-names", f"{suffix} is served." if suffix else "No zone is served.")


routes = [
    get("/public-names", list_names),
    get("/public-names/new", ask_new),
    post("/public-names", make),
    get("/public-names/zone", ask_zone),
    post("/public-names/zone", set_zone),
    get("/public-names/{record_id}/delete", ask_delete),
    post("/public-names/{record_id}/delete", delete),
]
