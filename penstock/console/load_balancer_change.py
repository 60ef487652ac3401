"""Changing a load balancer: what it listens on, who is behind it, how they are chosen and asked whether they are well.

Listeners and members are lines of text, so that one form without a script holds any number of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from penstock.actions import certificate as certificate_actions
from penstock.actions import load_balancer as balancer_actions
from penstock.actions import network_part
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.console.edge import Visit, get, post
from penstock.console.load_balancer import member_at
from penstock.console.sheet import (
    REFUSED,
    Box,
    Sheet,
    fill,
    number_in,
    number_of,
    one_of,
    text_of,
)
from penstock.domain.load_balancer import (
    INTERVAL_MS_MAX,
    INTERVAL_MS_MIN,
    STREAK_MAX,
    WEIGHT_MAX,
    Algorithm,
    CheckKind,
    Mode,
)
from penstock.domain.security_group import PORT_MAX
from penstock.store.rows import Row
from penstock.store.schema import port

ALGORITHMS = (
    (Algorithm.ROUNDROBIN.value, "one after the other"),
    (Algorithm.LEASTCONN.value, "whoever has the fewest connections"),
    (Algorithm.SOURCE.value, "a client always gets the same one"),
)
CHECKS = ((CheckKind.TCP.value, "a connection is enough"), (CheckKind.HTTP.value, "a request is answered"))


def _found(visit: Visit) -> Row:
    row = balancer_actions.show(visit.context, visit.actor, visit.path("load_balancer_id"))
    visit.actor.require("load_balancer:update", row["tenant_id"], row["project_id"])
    return row


def _certificates(visit: Visit, row: Row) -> dict[str, str]:
    """Return the names of the project's certificates by id."""
    rows = certificate_actions.list_page(
        visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
    )
    return {one["id"]: one["name"] for one in rows if one["project_id"] == row["project_id"]}


def _ports(visit: Visit, row: Row) -> dict[str, str]:
    """Return the names of the network's ports by id."""
    rows = network_part.list_page(
        visit.context,
        visit.actor,
        port,
        network_id=row["network_id"],
        after=None,
        limit=limits.PORTS_PER_NETWORK_MAX,
    )
    return {one["id"]: one["name"] for one in rows}


def _sheet(visit: Visit, row: Row) -> Sheet:
    certificates, ports = _certificates(visit, row), _ports(visit, row)
    return Sheet(
        f"Change {row['name']}",
        "Its host takes the change within seconds.",
        f"/load-balancers/{row['id']}/edit",
        "Change it",
        [("/load-balancers", "Load balancers"), (f"/load-balancers/{row['id']}", row["name"])],
        [
            Box(
                "listeners",
                "Listens on",
                "code",
                value="\n".join(_listener_line(one, certificates) for one in row["listeners"]),
                hint="One a line: a port, what it takes (tcp, http, https) and for https the name of a certificate, as in "
                "443 https www."
                + (f" There are: {', '.join(certificates.values())}." if certificates else ""),
            ),
            Box(
                "members",
                "Members",
                "code",
                value="\n".join(_member_line(one, ports) for one in row["members"]),
                hint="One a line: the name of a port of the network or an address, a port number, and a weight unless it is "
                f"1, as in web-1:8080 2. Weight 0 drains: nothing new, what it has goes on (most: {WEIGHT_MAX}).",
                required=False,
                rows=5,
            ),
            Box("algorithm", "Balance", "choose", options=ALGORITHMS, value=row["algorithm"]),
            *_check_boxes(row["health_check"]),
            Box("description", "Description", value=row["description"], required=False),
            Box("revision", control="hidden", value=row["revision"]),
        ],
        ["Connections that it has go on. What is taken off the lists gets nothing new."],
    )


def _check_boxes(check: Mapping[str, Any]) -> list[Box]:
    return [
        Box("health_check.kind", "A member is well if", "choose", options=CHECKS, value=check["kind"]),
        Box(
            "health_check.path",
            "The request asks for",
            value=check["path"] or "",
            required=False,
            hint="A path such as /healthz; 200 to 399 is well.",
            characters_max=256,
        ),
        Box(
            "health_check.interval_ms",
            "Asked every (ms)",
            "number",
            value=check["interval_ms"],
            minimum=INTERVAL_MS_MIN,
            maximum=INTERVAL_MS_MAX,
        ),
        Box(
            "health_check.rise",
            "Good answers until it is up",
            "number",
            value=check["rise"],
            minimum=1,
            maximum=STREAK_MAX,
        ),
        Box(
            "health_check.fall",
            "Bad answers until it is down",
            "number",
            value=check["fall"],
            minimum=1,
            maximum=STREAK_MAX,
        ),
    ]


def _listener_line(one: Mapping[str, Any], certificates: Mapping[str, str]) -> str:
    name = certificates.get(one["certificate_id"] or "", one["certificate_id"] or "")
    return f"{one['port']} {one['mode']} {name}".rstrip()


def _member_line(one: Mapping[str, Any], ports: Mapping[str, str]) -> str:
    host = ports.get(one["port_id"] or "", one["address"])
    return f"{host}:{one['port']}" + (f" {one['weight']}" if one["weight"] != 1 else "")


def _lines(visit: Visit, field: str, most: int) -> list[list[str]]:
    lines = [line.split() for line in visit.field(field).splitlines() if line.strip()]
    if len(lines) > most:
        raise InvalidInputError(f"at most {most} lines", field=field)
    return lines


def _listeners(visit: Visit, certificates: Mapping[str, str]) -> list[dict[str, Any]]:
    by_name = {name: identifier for identifier, name in certificates.items()}
    found: list[dict[str, Any]] = []
    for words in _lines(visit, "listeners", limits.LISTENERS_PER_BALANCER_MAX):
        if len(words) not in (2, 3) or words[1] not in list(Mode):
            raise InvalidInputError(
                f"'{' '.join(words)[:80]}' is no listener; write as in 80 http, or 443 https www",
                field="listeners",
            )
        if len(words) == 3 and words[2] not in by_name:
            raise InvalidInputError(f"the project has no certificate '{words[2][:63]}'", field="listeners")
        found.append(
            {
                "port": number_in(words[0], "listeners", 1, PORT_MAX),
                "mode": words[1],
                "certificate_id": by_name[words[2]] if len(words) == 3 else None,
            }
        )
    if not found:
        raise InvalidInputError("it must listen on something, as in 80 http", field="listeners")
    return found


def _members(visit: Visit, ports: Mapping[str, str]) -> list[dict[str, Any]]:
    by_name = {name: identifier for identifier, name in ports.items()}
    found: list[dict[str, Any]] = []
    for words in _lines(visit, "members", limits.MEMBERS_PER_BALANCER_MAX):
        if len(words) > 2:
            raise InvalidInputError(
                f"'{' '.join(words)[:80]}' is no member; write as in web-1:8080, or 10.0.0.9:8080 2",
                field="members",
            )
        weight = number_in(words[1], "members", 0, WEIGHT_MAX) if len(words) == 2 else 1
        found.append({**member_at(words[0], by_name.get), "weight": weight})
    return found


def _check(visit: Visit) -> dict[str, Any]:
    kind = one_of(visit, "health_check.kind", list(CheckKind))
    path = text_of(visit, "health_check.path", 256) or None
    return {
        "kind": kind,
        "path": path if kind == CheckKind.HTTP else None,  # the field stays when the choice changes
        "interval_ms": number_of(visit, "health_check.interval_ms", INTERVAL_MS_MIN, INTERVAL_MS_MAX),
        "rise": number_of(visit, "health_check.rise", 1, STREAK_MAX),
        "fall": number_of(visit, "health_check.fall", 1, STREAK_MAX),
    }


def ask_change(visit: Visit) -> Response:
    """Show what may be changed, as it is."""
    return fill(visit, _sheet(visit, _found(visit)))


def change(visit: Visit) -> Response:
    """Change a load balancer, unless somebody else did meanwhile."""
    row = _found(visit)
    try:
        values: dict[str, Any] = {
            "description": text_of(visit, "description"),
            "algorithm": one_of(visit, "algorithm", list(Algorithm)),
            "listeners": _listeners(visit, _certificates(visit, row)),
            "members": _members(visit, _ports(visit, row)),
            "health_check": _check(visit),
        }
        changed = {name: value for name, value in values.items() if value != _stored(row, name)}
        revision = visit.whole("revision", "Revision")
        balancer_actions.update(visit.context, visit.actor, row["id"], changed, revision=revision)
    except REFUSED as error:
        return fill(visit, _sheet(visit, row), error)
    return visit.go(f"/load-balancers/{row['id']}", f"'{row['name']}' is being changed.")


def _stored(row: Row, name: str) -> Any:
    """Return a part of a load balancer as the form says it, to tell what was changed."""
    if name != "members":
        return row[name]
    keys: Sequence[str] = ("port_id", "address", "port", "weight")
    listed = [{key: one[key] for key in keys} for one in row["members"]]
    return [{**one, "address": None if one["port_id"] else one["address"], "vm_id": None} for one in listed]


routes = [
    get("/load-balancers/{load_balancer_id}/edit", ask_change),
    post("/load-balancers/{load_balancer_id}/edit", change),
]
