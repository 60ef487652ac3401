"""Names of a network's private zone at the console: written and removed. Ports are in it by themselves."""

from starlette.responses import Response

from penstock.actions import dns_record as record_actions
from penstock.console import network_part
from penstock.console.edge import Visit, get, post
from penstock.console.sheet import REFUSED, Box, Sheet, fill, one_of, text_of
from penstock.domain.dns_record import RecordType
from penstock.store.rows import Row
from penstock.store.schema import dns_record

KINDS = {
    "A": "A: an IPv4 address",
    "AAAA": "AAAA: an IPv6 address",
    "CNAME": "CNAME: another name",
    "TXT": "TXT: a text",
}


def record_boxes(zone: str, kinds: list[str]) -> list[Box]:
    """Return the fields of a record: its name within ``zone``, one of ``kinds``, and what it says."""
    return [
        Box(
            "name", "Name", hint=f"Within {zone}, as in www or a.b; @ is the zone itself.", characters_max=190
        ),
        Box("type", "Kind", "choose", options=[(kind, KINDS[kind]) for kind in kinds]),
        Box("value", "Says", hint="An address, a full name, or a text without quotes.", characters_max=255),
    ]


def _new(network: Row) -> Sheet:
    return Sheet(
        f"Add a name to {network['dns_zone']}",
        f"Guests of {network['name']} see it; ports have names there by themselves.",
        f"/networks/{network['id']}/names",
        "Add it",
        network_part.way(network),
        [
            *record_boxes(network["dns_zone"], list(RecordType)),
            Box("description", "Description", required=False),
        ],
    )


def ask_new(visit: Visit) -> Response:
    """Ask what name to write."""
    return fill(visit, _new(network_part.network_for(visit, "dns_record:create")))


def make(visit: Visit) -> Response:
    """Write a name."""
    network = network_part.network_for(visit, "dns_record:create")
    try:
        row = record_actions.create(
            visit.context,
            visit.actor,
            network_id=network["id"],
            name=text_of(visit, "name", 190),
            kind=one_of(visit, "type", RecordType),
            value=text_of(visit, "value", 255),
            description=text_of(visit, "description"),
        )
    except REFUSED as error:
        return fill(visit, _new(network), error)
    return visit.go(f"/networks/{network['id']}", f"'{row['name']}' is known within seconds.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    return network_part.ask_delete(
        visit,
        dns_record,
        "/names",
        ["Guests do not find it any more once what they remember of it is too old."],
    )


def delete(visit: Visit) -> Response:
    """Remove a name."""
    return network_part.delete(visit, dns_record, record_actions.delete)


routes = [
    get("/networks/{network_id}/names/new", ask_new),
    post("/networks/{network_id}/names", make),
    get("/names/{dns_record_id}/delete", ask_delete),
    post("/names/{dns_record_id}/delete", delete),
]
