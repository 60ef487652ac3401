"""`penstock port`: where guests are plugged into a network."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Port = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("NETWORK", "network_id"),
    Column("ADDRESS", "address"),
    Column("MAC", "mac"),
    Column("SERVICE", "service_id"),
    Column("CREATED", "created_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("SUBNET", "subnet_id"),
    Column("DESCRIPTION", "description"),
    Column("SENDS AT MOST (KBIT/S)", "egress_kbit_per_second", Kind.COUNT),
)


@command(app, "create", examples=["penstock port create web-1 --subnet front --group web"])
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    subnet: Annotated[str, typer.Option("--subnet", "-s", help="Name or id of the subnet.")],
    address: Annotated[
        str | None, typer.Option("--address", help="One of the subnet; the lowest free without.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="A security group; may be repeated.")
    ] = None,
    egress: Annotated[
        int | None, typer.Option("--egress-kbit", help="How much it may send, in kbit/s.")
    ] = None,
) -> None:
    """Make a port."""
    body = {
        "name": name,
        "subnet_id": session.find("subnets", subnet),
        "address": address,
        "security_group_ids": [session.find("security-groups", one) for one in group or []],
        "egress_kbit_per_second": egress,
    }
    session.show(session.client.post("/v1/ports", body), DETAIL)


@command(app, "list", examples=["penstock port list --network prod"])
def list_(
    session: Session,
    network: Annotated[str | None, typer.Option("--network", "-n", help="Of this network only.")] = None,
    limit: ListLimit = None,
) -> None:
    """List the ports that you may see."""
    params = {} if network is None else {"network_id": session.find("networks", network)}
    session.show_list("/v1/ports", COLUMNS, params=params, limit=limit)


@command(app, "show", examples=["penstock port show web-1"])
def show(session: Session, port: Port) -> None:
    """Show one port."""
    session.show(session.client.get(f"/v1/ports/{session.find('ports', port)}"), DETAIL)


@command(app, "set-limit", examples=["penstock port set-limit web-1 --egress-kbit 100000"])
def set_limit(
    session: Session,
    port: Port,
    egress: Annotated[
        int | None, typer.Option("--egress-kbit", help="In kbit/s; without, as much as there is.")
    ] = None,
) -> None:
    """Change how much a port may send; connections go on."""
    path = f"/v1/ports/{session.find('ports', port)}"
    session.show(session.client.request("PATCH", path, body={"egress_kbit_per_second": egress}), DETAIL)


@command(app, "place", examples=["penstock port place web-1 --node hv1", "penstock port place web-1"])
def place(
    session: Session,
    port: Port,
    node: Annotated[
        str | None, typer.Option("--node", help="Name or id; without, the port is unplugged.")
    ] = None,
) -> None:
    """Plug a port in on a node, or unplug it; for operators, for what no service places."""
    body = {"node_id": None if node is None else session.find("nodes", node)}
    session.show(session.client.put(f"/v1/ports/{session.find('ports', port)}/node", body), DETAIL)


COUNTERS = (
    Column("RECEIVED", "received_bytes", Kind.BYTES),
    Column("PACKETS", "received_packets", Kind.COUNT),
    Column("DROPPED", "received_drops", Kind.COUNT),
    Column("SENT", "sent_bytes", Kind.BYTES),
    Column("PACKETS", "sent_packets", Kind.COUNT),
    Column("DROPPED", "sent_drops", Kind.COUNT),
    Column("COUNTED", "counted_at", Kind.TIME),
)


@command(app, "counters", examples=["penstock port counters web-1"])
def counters(session: Session, port: Port) -> None:
    """Show what went through a port since it was plugged in, as its guest sees it."""
    found = session.client.get(f"/v1/ports/{session.find('ports', port)}/counters")
    session.show(found, COUNTERS)


@command(app, "delete", examples=["penstock port delete web-1 --yes"])
def delete(session: Session, port: Port, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a port that nothing uses."""
    port_id = session.find("ports", port)
    session.confirm(f"Delete the port '{port}' and give its address back?", yes=yes)
    session.client.delete(f"/v1/ports/{port_id}")
    session.say(f"the port '{port}' is deleted")
