"""Subnets at the console: made, their ACL and DHCP options changed as lines of text, deleted."""

import re
from typing import Any, cast

from starlette.responses import Response

from penstock.actions import subnet as subnet_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.console import network_part
from penstock.console.edge import Visit, get, post
from penstock.console.form import pairs_of
from penstock.console.names import checked_name
from penstock.console.sheet import REFUSED, Box, Sheet, fill, name_box, number_in, text_of
from penstock.domain.security_group import PORT_MAX
from penstock.domain.subnet import ACTIONS, DHCP_OPTIONS
from penstock.store.rows import Row
from penstock.store.schema import subnet

_PORTS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")
_ACL = Box(
    "acl",
    "What crosses its edge (ACL)",
    "code",
    hint="One a line, the first that fits decides, none: it passes. Allow or deny, in or out, a protocol (any, tcp, udp, "
    "icmp), then ports and the other side's prefix if it is about those: deny in tcp 22-23 10.0.0.0/8",
    required=False,
    characters_max=limits.ACL_ENTRIES_MAX * 80,
    rows=5,
)
_OPTIONS = Box(
    "dhcp_options",
    "DHCP options",
    "code",
    hint=f"One name=value a line, several values apart by commas. There are: {', '.join(DHCP_OPTIONS)}.",
    required=False,
)


def _new(network: Row) -> Sheet:
    return Sheet(
        f"Add a subnet to {network['name']}",
        "A prefix whose addresses its ports get; the first is the router's.",
        f"/networks/{network['id']}/subnets",
        "Add it",
        network_part.way(network),
        [
            name_box(),
            Box(
                "prefix",
                "Prefix",
                hint="As in 10.0.1.0/24; it may not overlap another one of this network or of its peers.",
                characters_max=18,
            ),
            Box("description", "Description", required=False),
            _ACL,
            _OPTIONS,
        ],
    )


def ask_new(visit: Visit) -> Response:
    """Ask what subnet to make."""
    return fill(visit, _new(network_part.network_for(visit, "subnet:create")))


def make(visit: Visit) -> Response:
    """Make a subnet."""
    network = network_part.network_for(visit, "subnet:create")
    try:
        row = subnet_actions.create(
            visit.context,
            visit.actor,
            network_id=network["id"],
            name=checked_name(visit.field("name")),
            description=text_of(visit, "description"),
            prefix=text_of(visit, "prefix", 18),
            dhcp_options=_options(visit),
            acl=_acl(visit),
        )
    except REFUSED as error:
        return fill(visit, _new(network), error)
    return visit.go(f"/networks/{network['id']}", f"'{row['name']}' is added.")


def _acl(visit: Visit) -> list[dict[str, Any]]:
    found = [_entry(line) for line in visit.field("acl").splitlines() if line.strip()]
    if len(found) > limits.ACL_ENTRIES_MAX:
        raise InvalidInputError(f"an ACL has at most {limits.ACL_ENTRIES_MAX} entries", field="acl")
    return found


def _entry(line: str) -> dict[str, Any]:
    """Return a line as the API has it; what is wrong with its parts is the action's to say."""
    words = line.split()
    if len(words) < 3 or words[0] not in ACTIONS:
        raise InvalidInputError(
            f"'{line.strip()[:80]}' is no entry; write as in deny in tcp 22 10.0.0.0/8", field="acl"
        )
    rest = words[3:]
    low = high = None
    if rest and _PORTS.fullmatch(rest[0]):
        first, _, last = rest.pop(0).partition("-")
        low = number_in(first, "acl", 1, PORT_MAX)
        high = number_in(last or first, "acl", 1, PORT_MAX)
    if len(rest) > 1:
        raise InvalidInputError(f"'{line.strip()[:80]}' has too many words", field="acl")
    return {
        "action": words[0],
        "direction": words[1],
        "protocol": words[2],
        "port_min": low,
        "port_max": high,
        "prefix": rest[0] if rest else None,
    }


def _acl_line(entry: dict[str, Any]) -> str:
    low, high = entry["port_min"], entry["port_max"]
    ports = "" if low is None else f" {low}" if low == high else f" {low}-{high}"
    return (
        f"{entry['action']} {entry['direction']} {entry['protocol']}{ports} {entry['prefix'] or ''}".rstrip()
    )


def _options(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in pairs_of("dhcp_options", text_of(visit, "dhcp_options"), "DHCP options").items():
        kind = DHCP_OPTIONS.get(name)
        if kind == "number":
            found[name] = number_in(text, "dhcp_options", 0, 1 << 31)
        else:
            found[name] = [one.strip() for one in text.split(",")] if kind in ("addresses", "names") else text
    return found


def _options_text(options: dict[str, Any]) -> str:
    return "\n".join(f"{name}={_option_text(value)}" for name, value in options.items())


def _option_text(value: Any) -> str:
    return ", ".join(cast("list[str]", value)) if isinstance(value, list) else str(value)


def _edit(row: Row, network: Row) -> Sheet:
    acl = "\n".join(_acl_line(one) for one in row["acl"])
    boxes = (_ACL, acl), (_OPTIONS, _options_text(row["dhcp_options"]))
    return Sheet(
        f"Change {row['name']}",
        f"{row['prefix']} of {network['name']}. The prefix is for life.",
        f"/subnets/{row['id']}",
        "Change it",
        network_part.way(network),
        [
            *(
                Box(
                    box.name,
                    box.title,
                    box.control,
                    box.hint,
                    value,
                    required=False,
                    characters_max=box.characters_max,
                    rows=5,
                )
                for box, value in boxes
            ),
            Box("description", "Description", value=row["description"], required=False),
        ],
        ["Hosts follow within seconds; guests take DHCP options when they renew their lease."],
    )


def show(visit: Visit) -> Response:
    """Show what may be changed about a subnet."""
    return fill(visit, _edit(*network_part.found(visit, subnet, "subnet:update")))


def change(visit: Visit) -> Response:
    """Change a subnet's ACL, DHCP options and description."""
    row, network = network_part.found(visit, subnet, "subnet:update")
    try:
        values = {
            "acl": _acl(visit),
            "dhcp_options": _options(visit),
            "description": text_of(visit, "description"),
        }
        subnet_actions.update(visit.context, visit.actor, row["id"], values)
    except REFUSED as error:
        return fill(visit, _edit(row, network), error)
    return visit.go(f"/networks/{network['id']}", f"'{row['name']}' is being changed.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    effects = ["Its addresses are free for other prefixes. It is refused while ports have addresses of it."]
    return network_part.ask_delete(visit, subnet, "/subnets", effects)


def delete(visit: Visit) -> Response:
    """Delete a subnet."""
    return network_part.delete(visit, subnet, subnet_actions.delete)


routes = [
    get("/networks/{network_id}/subnets/new", ask_new),
    post("/networks/{network_id}/subnets", make),
    get("/subnets/{subnet_id}", show),
    post("/subnets/{subnet_id}", change),
    get("/subnets/{subnet_id}/delete", ask_delete),
    post("/subnets/{subnet_id}/delete", delete),
]
