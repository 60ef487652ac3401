"""`penstock subnet`: prefixes of a network."""

import json
from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.network import NetworkOption
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Subnet = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("NETWORK", "network_id"),
    Column("PREFIX", "prefix"),
    Column("ROUTER", "gateway"),
    Column("CREATED", "created_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("DESCRIPTION", "description"),
    Column("DHCP OPTIONS", "dhcp_options"),
    Column("ACL", "acl", Kind.LIST),
)


@command(app, "create", examples=["penstock subnet create front --network prod --prefix 10.0.0.0/24"])
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    network: NetworkOption,
    prefix: Annotated[str, typer.Option("--prefix", help="As in 10.0.0.0/24.")],
    options: Annotated[
        str | None, typer.Option("--dhcp-options", help='JSON, as in {"ntp-server": ["10.0.0.9"]}.')
    ] = None,
) -> None:
    """Make a subnet."""
    body = {
        "name": name,
        "network_id": session.find("networks", network),
        "prefix": prefix,
        "dhcp_options": _json(options, "--dhcp-options", {}),
    }
    session.show(session.client.post("/v1/subnets", body), DETAIL)


@command(app, "list", examples=["penstock subnet list --network prod"])
def list_(
    session: Session,
    network: Annotated[str | None, typer.Option("--network", "-n", help="Of this network only.")] = None,
    limit: ListLimit = None,
) -> None:
    """List the subnets that you may see."""
    params = {} if network is None else {"network_id": session.find("networks", network)}
    session.show_list("/v1/subnets", COLUMNS, params=params, limit=limit)


@command(app, "show", examples=["penstock subnet show front"])
def show(session: Session, subnet: Subnet) -> None:
    """Show one subnet."""
    session.show(session.client.get(f"/v1/subnets/{session.find('subnets', subnet)}"), DETAIL)


@command(
    app,
    "set-acl",
    examples=[
        'penstock subnet set-acl front \'[{"action": "deny", "direction": "in", "prefix": "10.9.0.0/16"}]\''
    ],
)
def set_acl(
    session: Session,
    subnet: Subnet,
    acl: Annotated[str, typer.Argument(help="A JSON list of entries, in order.")],
) -> None:
    """Replace what may cross a subnet's edge."""
    path = f"/v1/subnets/{session.find('subnets', subnet)}"
    session.show(session.client.request("PATCH", path, body={"acl": _json(acl, "ACL", [])}), DETAIL)


@command(app, "set-options", examples=['penstock subnet set-options front \'{"ntp-server": ["10.0.0.9"]}\''])
def set_options(
    session: Session,
    subnet: Subnet,
    options: Annotated[str, typer.Argument(help="JSON by name; {} for none.")],
) -> None:
    """Replace a subnet's DHCP options; guests take them at their next lease."""
    path = f"/v1/subnets/{session.find('subnets', subnet)}"
    body = {"dhcp_options": _json(options, "OPTIONS", {})}
    session.show(session.client.request("PATCH", path, body=body), DETAIL)


@command(app, "delete", examples=["penstock subnet delete front --yes"])
def delete(session: Session, subnet: Subnet, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a subnet without ports."""
    subnet_id = session.find("subnets", subnet)
    session.confirm(f"Delete the subnet '{subnet}'?", yes=yes)
    session.client.delete(f"/v1/subnets/{subnet_id}")
    session.say(f"the subnet '{subnet}' is deleted")


def _json(text: str | None, what: str, empty: object) -> object:
    try:
        return empty if text is None else json.loads(text)
    except ValueError as error:
        raise CliError(f"{what} is not JSON: {error}", USAGE) from error
