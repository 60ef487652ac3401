"""`penstock load-balancer`: one address that hands connections to those members that are well."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Members = list[dict[str, Any]]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("ADDRESS", "address"),
    Column("STATE", "state"),
    Column("LISTENS", "listening", Kind.LIST),
    Column("MEMBERS", "members_up"),
    Column("SESSIONS", "sessions", Kind.COUNT),
)
DETAIL = (
    *COLUMNS,
    Column("REASON", "reason"),
    Column("DNS NAME", "dns_name"),
    Column("PORT", "port_id"),
    Column("NETWORK", "network_id"),
    Column("ALGORITHM", "algorithm"),
    Column("HEALTH", "member_states", Kind.LIST),
    Column("CHECK", "asked"),
    Column("OPEN", "open_sessions", Kind.COUNT),
    Column("RECEIVED", "received_bytes", Kind.BYTES),
    Column("SENT", "sent_bytes", Kind.BYTES),
    Column("REVISION", "revision"),
    Column("CREATED", "created_at", Kind.TIME),
)
Balancer = Annotated[str, typer.Argument(help="Its name or id.")]
Listen = Annotated[
    list[str] | None,
    typer.Option(
        "--listen", help="PORT/MODE or PORT/https/CERTIFICATE; MODE is tcp or http. May be repeated."
    ),
]
MemberOption = Annotated[
    list[str] | None,
    typer.Option(
        "--member", help="ADDRESS:PORT or the name of a port: NAME:PORT; with /WEIGHT. May be repeated."
    ),
]
AlgorithmOption = Annotated[str | None, typer.Option("--algorithm", help="roundrobin, leastconn or source.")]
CheckOption = Annotated[
    str | None, typer.Option("--check", help="tcp, or the path that an http check asks for, as in /healthz.")
]
IntervalOption = Annotated[
    int | None, typer.Option("--check-interval-ms", help="How often each member is asked; 2000 without.")
]


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    """Return a load balancer with what tables show of its lists."""
    members = document["members"]
    up = sum(one["state"] == "up" for one in members)
    check = document["health_check"]
    return {
        **document,
        "listening": [f"{one['port']}/{one['mode']}" for one in document["listeners"]],
        "members_up": f"{up} of {len(members)} up",
        "member_states": [
            f"{one['address']}:{one['port']} {one['state']} {one['check']}".strip() for one in members
        ],
        "asked": f"{check['kind']} {check['path'] or ''} every {check['interval_ms']} ms",
    }


def _show(session: Session, document: dict[str, Any]) -> None:
    session.show(_flat(document) if session.output is Format.TABLE else document, DETAIL)


def _listener(session: Session, text: str) -> dict[str, Any]:
    port, _, rest = text.partition("/")
    mode, _, certificate = rest.partition("/")
    if not port.isdigit():
        raise CliError(f"'{text}' is no listener, as in 80/http or 443/https/www", USAGE)
    found = session.find("certificates", certificate) if certificate else None
    return {"port": int(port), "mode": mode or "tcp", "certificate_id": found}


def _member(session: Session, text: str) -> dict[str, Any]:
    where, _, weight = text.partition("/")
    host, _, port = where.rpartition(":")
    if not port.isdigit() or not host or not (weight or "1").isdigit():
        raise CliError(f"'{text}' is no member, as in 10.0.0.9:8080, web-1:8080 or web-1:8080/2", USAGE)
    plain = all(part.isdigit() for part in host.split("."))
    at = {"address": host} if plain else {"port_id": session.find("ports", host)}
    return {**at, "port": int(port), "weight": int(weight or "1")}


def _check(check: str | None, interval_ms: int | None) -> dict[str, Any]:
    kind = {} if check is None else {"kind": "tcp"} if check == "tcp" else {"kind": "http", "path": check}
    return {**kind, **({} if interval_ms is None else {"interval_ms": interval_ms})}


@command(
    app,
    "create",
    examples=[
        "penstock load-balancer create www -s front --listen 443/https/www --member web-1:8080 --member web-2:8080",
        "penstock load-balancer create db -s front --listen 5432/tcp --member 10.0.0.9:5432 --algorithm leastconn",
    ],
)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    subnet: Annotated[str, typer.Option("--subnet", "-s", help="Name or id of the subnet.")],
    listen: Listen = None,
    member: MemberOption = None,
    algorithm: AlgorithmOption = None,
    check: CheckOption = None,
    check_interval_ms: IntervalOption = None,
    address: Annotated[str | None, typer.Option("--address", help="The lowest free one without.")] = None,
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="A security group.")] = None,
) -> None:
    """Make a load balancer in a subnet; what may reach it is said by security groups."""
    body = {
        "name": name,
        "subnet_id": session.find("subnets", subnet),
        "address": address,
        "security_group_ids": [session.find("security-groups", one) for one in group or ()],
        "listeners": [_listener(session, one) for one in listen or ()],
        "members": [_member(session, one) for one in member or ()],
        **({} if algorithm is None else {"algorithm": algorithm}),
        "health_check": _check(check, check_interval_ms),
    }
    _show(session, session.client.post("/v1/load-balancers", body))


@command(app, "list", examples=["penstock load-balancer list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the load balancers that you may see."""
    items, more = session.client.items("/v1/load-balancers", {}, limit)
    shown = [_flat(one) for one in items] if session.output is Format.TABLE else items
    session.show_items(shown, COLUMNS, more=more, empty="nothing yet")


@command(app, "show", examples=["penstock load-balancer show www"])
def show(session: Session, balancer: Balancer) -> None:
    """Show one load balancer with the health of its members."""
    _show(session, session.client.get(f"/v1/load-balancers/{session.find('load-balancers', balancer)}"))


@command(
    app,
    "set",
    examples=[
        "penstock load-balancer set www --algorithm source --check /healthz",
        "penstock load-balancer set www --member web-2:8080 --member web-3:8080/2",
    ],
)
def set_(
    session: Session,
    balancer: Balancer,
    listen: Listen = None,
    member: MemberOption = None,
    algorithm: AlgorithmOption = None,
    check: CheckOption = None,
    check_interval_ms: IntervalOption = None,
) -> None:
    """Change a load balancer; listeners and members that are given replace those that there are."""
    path = f"/v1/load-balancers/{session.find('load-balancers', balancer)}"
    known = session.client.get(path)
    body: dict[str, Any] = {"revision": known["revision"]}
    if listen is not None:
        body["listeners"] = [_listener(session, one) for one in listen]
    if member is not None:
        body["members"] = [_member(session, one) for one in member]
    if algorithm is not None:
        body["algorithm"] = algorithm
    changed = _check(check, check_interval_ms)
    if changed:
        before = known["health_check"]
        path_kept = {} if "kind" not in changed else {"path": None}
        body["health_check"] = {**before, **path_kept, **changed}
    _show(session, session.client.request("PATCH", path, body=body))


@command(
    app,
    "add-member",
    examples=[
        "penstock load-balancer add-member www web-3:8080",
        "penstock load-balancer add-member www 10.0.0.9:80/5",
    ],
)
def add_member(
    session: Session,
    balancer: Balancer,
    member: Annotated[str, typer.Argument(help="ADDRESS:PORT or NAME:PORT, with /WEIGHT.")],
) -> None:
    """Add a member; it gets connections once it is well."""
    _change_members(session, balancer, lambda members: [*members, _member(session, member)])


@command(app, "remove-member", examples=["penstock load-balancer remove-member www 10.0.0.9:80"])
def remove_member(
    session: Session,
    balancer: Balancer,
    member: Annotated[str, typer.Argument(help="ADDRESS:PORT, as `show` lists it.")],
) -> None:
    """Take a member away; connections that it has go on until they end."""

    def without(members: Members) -> Members:
        left = [one for one in members if f"{one['address']}:{one['port']}" != member]
        if len(left) == len(members):
            raise CliError(f"'{member}' is no member; see `penstock load-balancer show {balancer}`", USAGE)
        return left

    _change_members(session, balancer, without)


def _change_members(session: Session, balancer: str, change: Callable[[Members], Members]) -> None:
    path = f"/v1/load-balancers/{session.find('load-balancers', balancer)}"
    known = session.client.get(path)
    members = change(known["members"])
    body = {"revision": known["revision"], "members": [_as_asked(one) for one in members]}
    _show(session, session.client.request("PATCH", path, body=body))


def _as_asked(member: dict[str, Any]) -> dict[str, Any]:
    at = {"address": member["address"]} if member.get("port_id") is None else {"port_id": member["port_id"]}
    return {**at, "port": member["port"], "weight": member["weight"]}


@command(app, "delete", examples=["penstock load-balancer delete www --yes"])
def delete(session: Session, balancer: Balancer, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a load balancer with its port; its connections end."""
    balancer_id = session.find("load-balancers", balancer)
    session.confirm(f"Delete the load balancer '{balancer}'? Its connections end.", yes=yes)
    _show(session, session.client.delete(f"/v1/load-balancers/{balancer_id}"))
