"""`penstock security-group`: who may reach whom."""

from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.network import NetworkOption
from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import Document, ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Group = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("NETWORK", "network_id"),
    Column("DESCRIPTION", "description"),
    Column("CREATED", "created_at", Kind.TIME),
)
RULES = (
    Column("RULE", "id"),
    Column("DIRECTION", "direction"),
    Column("PROTOCOL", "protocol"),
    Column("FROM PORT", "port_min"),
    Column("TO PORT", "port_max"),
    Column("PREFIX", "prefix"),
    Column("GROUP", "remote_group_id"),
    Column("DESCRIPTION", "description"),
)
BINDINGS = (Column("HOLDS FOR", "scope"), Column("TARGET", "target_id"))
_NOUNS = {"port": "ports", "service": "services", "subnet": "subnets", "node": "nodes", "network": "networks"}


@command(app, "create", examples=["penstock security-group create web --network prod"])
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    network: NetworkOption,
    description: Annotated[str, typer.Option("--description", "-d", help="For people.")] = "",
    no_egress: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool, typer.Option("--no-egress", help="Let nothing out either until a rule does.")
    ] = False,
) -> None:
    """Make a group that lets nothing in."""
    body = {
        "name": name,
        "network_id": session.find("networks", network),
        "description": description,
        "allow_egress": not no_egress,
    }
    _show(session, session.client.post("/v1/security-groups", body))


def _show(session: Session, group: Document) -> None:
    session.show(group, COLUMNS)
    if session.output is Format.TABLE:
        session.stream.write("\n")
        session.show_items(group["rules"], RULES, empty="no rules: nothing may pass")
        session.show_items(group["bindings"], BINDINGS, empty="holds for nothing yet")


@command(app, "list", examples=["penstock security-group list --network prod"])
def list_(
    session: Session,
    network: Annotated[str | None, typer.Option("--network", "-n", help="Of this network only.")] = None,
    limit: ListLimit = None,
) -> None:
    """List the security groups that you may see."""
    params = {} if network is None else {"network_id": session.find("networks", network)}
    session.show_list("/v1/security-groups", COLUMNS, params=params, limit=limit)


@command(app, "show", examples=["penstock security-group show web"])
def show(session: Session, group: Group) -> None:
    """Show one group with its rules and what it holds for."""
    group_id = session.find("security-groups", group)
    _show(session, session.client.get(f"/v1/security-groups/{group_id}"))


@command(
    app,
    "allow",
    examples=[
        "penstock security-group allow web in tcp --port 443 --prefix 0.0.0.0/0",
        "penstock security-group allow db in tcp --port 5432 --from-group web",
    ],
)
def allow(
    session: Session,
    group: Group,
    direction: Annotated[str, typer.Argument(help="in or out.")],
    protocol: Annotated[str, typer.Argument(help="any, tcp, udp or icmp.")],
    port: Annotated[str | None, typer.Option("--port", help="One, or a range as in 8000-8010.")] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Of the other side; anybody without.")
    ] = None,
    from_group: Annotated[
        str | None, typer.Option("--from-group", help="The other side is in this security group.")
    ] = None,
    description: Annotated[str, typer.Option("--description", "-d", help="For people.")] = "",
) -> None:
    """Let something through."""
    low, high = _ports(port)
    body = {
        "direction": direction,
        "protocol": protocol,
        "port_min": low,
        "port_max": high,
        "prefix": prefix,
        "remote_group_id": None if from_group is None else session.find("security-groups", from_group),
        "description": description,
    }
    group_id = session.find("security-groups", group)
    session.show(session.client.post(f"/v1/security-groups/{group_id}/rules", body), RULES)


def _ports(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError as error:
        raise CliError("--port is a number, or a range as in 8000-8010", USAGE) from error


@command(app, "revoke", examples=["penstock security-group revoke web sgl_01m6bfp5g0t9tqzvt7bzxr6tzx"])
def revoke(
    session: Session, group: Group, rule: Annotated[str, typer.Argument(help="Id of the rule.")]
) -> None:
    """Let something through no longer; connections that stand because of it are cut."""
    group_id = session.find("security-groups", group)
    session.client.delete(f"/v1/security-groups/{group_id}/rules/{rule}")
    session.say(f"the rule {rule} is gone")


@command(app, "bind", examples=["penstock security-group bind web subnet front"])
def bind(
    session: Session,
    group: Group,
    scope: Annotated[str, typer.Argument(help="port, service, subnet, node or network.")],
    target: Annotated[str, typer.Argument(help="Its name or id.")],
) -> None:
    """Make a group hold for something."""
    if scope not in _NOUNS:
        raise CliError(f"a group is bound to one of: {', '.join(_NOUNS)}", USAGE)
    group_id = session.find("security-groups", group)
    body = {"scope": scope, "target_id": session.find(_NOUNS[scope], target)}
    _show(session, session.client.post(f"/v1/security-groups/{group_id}/bindings", body))


@command(app, "unbind", examples=["penstock security-group unbind web sub_01m6bfp5g0t9tqzvt7bzxr6tzx"])
def unbind(
    session: Session, group: Group, target: Annotated[str, typer.Argument(help="Id of what it holds for.")]
) -> None:
    """Make a group hold for something no longer."""
    group_id = session.find("security-groups", group)
    _show(session, session.client.delete(f"/v1/security-groups/{group_id}/bindings/{target}"))


@command(app, "delete", examples=["penstock security-group delete web --yes"])
def delete(session: Session, group: Group, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a group that is bound to nothing."""
    group_id = session.find("security-groups", group)
    session.confirm(f"Delete the security group '{group}'?", yes=yes)
    session.client.delete(f"/v1/security-groups/{group_id}")
    session.say(f"the security group '{group}' is deleted")
