"""What an order of a machine names (image, keys, ports) looked up, and kept beside the service."""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.actions import port as port_actions
from penstock.actions.change import Change
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import ConflictError, ForbiddenError, InvalidInputError
from penstock.catalog.vm.spec import disk_fits
from penstock.domain.image import ImageState
from penstock.domain.port import mac_of
from penstock.store import image as image_store
from penstock.store import network as network_store
from penstock.store import owned
from penstock.store import vm as vm_store
from penstock.store.rows import Row
from penstock.store.schema import port, security_group, ssh_key, subnet

_HOST_CHARACTERS = re.compile(r"[^a-z0-9-]")


@dataclass(frozen=True, slots=True)
class Machine:
    """An order with what it names; ``spec`` holds no user data any more, only its digest."""

    spec: dict[str, Any]
    image: Row
    keys: tuple[str, ...]
    user_data: bytes
    ports: tuple[Row, ...]
    places: tuple["NewPort", ...]


@dataclass(frozen=True, slots=True)
class NewPort:
    """A port that is made with a machine: in a subnet of a network, with groups of it."""

    subnet: Row
    network: Row
    groups: tuple[Row, ...]


def look_up(
    connection: Connection, actor: Actor, project: Row, spec: Mapping[str, Any], asked: Mapping[str, Any]
) -> Machine:
    """Return what ``spec`` names; InvalidInputError names the field of what is not there or not fit.

    ``asked`` is what the caller himself said of it: bridges of the host are the operator's to name.
    """
    if asked.get("bridges") and not actor.is_operator:
        raise ForbiddenError(
            "bridges of the host are named by the operator's offer; use 'ports' of your networks"
        )
    image = image_store.usable(connection, project["tenant_id"], project["id"], spec["image"])
    copied = image is not None and image["temporary"] and image["state"] == ImageState.PENDING
    if image is None or not (image["state"] == ImageState.ACTIVE or copied):
        what = "no image" if image is None else "no finished image"
        raise InvalidInputError(f"{what} '{spec['image']}'; see `penstock image list`", field="spec.image")
    if image["architecture"] != spec["architecture"]:
        raise InvalidInputError(
            f"the image is for {image['architecture']}, the machine has {spec['architecture']}",
            field="spec.architecture",
        )
    if not disk_fits(spec["disk_gib"], image["virtual_bytes"]):
        raise InvalidInputError(
            f"the image has {-(-image['virtual_bytes'] >> 30)} GiB as a disk; ask for as much or more",
            field="spec.disk_gib",
        )
    user_data = _user_data(spec["user_data"])
    kept = f"sha256:{sha256(user_data).hexdigest()}" if user_data else ""
    return Machine(
        {**spec, "user_data": kept},
        image,
        _keys(connection, project, spec["ssh_keys"]),
        user_data,
        _ports(connection, project, spec["ports"]),
        _places(connection, actor, project, spec),
    )


def _user_data(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError("user data is given as base64", field="spec.user_data") from error
    if len(data) > limits.USER_DATA_BYTES_MAX:
        raise InvalidInputError(
            f"user data has {limits.USER_DATA_BYTES_MAX} bytes at most; these are {len(data)}",
            field="spec.user_data",
        )
    return data


def _keys(connection: Connection, project: Row, names: list[str]) -> tuple[str, ...]:
    lines: list[str] = []
    for number, name in enumerate(names):
        found = owned.find(connection, ssh_key, project_id=project["id"], name=name)
        if not found:
            raise InvalidInputError(
                f"the project has no SSH key '{name}'; see `penstock ssh-key list`",
                field=f"spec.ssh_keys.{number}",
            )
        lines.append(f"{found[0]['public_key']} {name}")
    return tuple(lines)


def _ports(connection: Connection, project: Row, names: list[str]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for number, text in enumerate(names):
        field = f"spec.ports.{number}"
        found = owned.find(connection, port, project_id=project["id"], id=text)
        found = found or owned.find(connection, port, project_id=project["id"], name=text)
        if len(found) > 1:
            raise InvalidInputError(f"more than one port is called '{text}'; give the id", field=field)
        if not found:
            raise InvalidInputError(
                f"the project has no port '{text}'; see `penstock port list`", field=field
            )
        if found[0]["service_id"] is not None:
            raise InvalidInputError(f"the port '{text}' belongs to another machine", field=field)
        rows.append(found[0])
    if len({row["id"] for row in rows}) != len(rows):
        raise InvalidInputError("the same port is named twice", field="spec.ports")
    return tuple(rows)


def _places(
    connection: Connection, actor: Actor, project: Row, spec: Mapping[str, Any]
) -> tuple[NewPort, ...]:
    """Return the ports to be made; their networks are locked before anything else of the order is."""
    if not spec["subnets"]:
        if spec["security_groups"]:
            raise InvalidInputError(
                "groups hold for the ports that are made in 'subnets'; name these too",
                field="spec.security_groups",
            )
        return ()
    if len(spec["subnets"]) + len(spec["ports"]) + len(spec["bridges"]) > limits.VM_NICS_MAX:
        raise InvalidInputError(
            f"a machine has at most {limits.VM_NICS_MAX} interfaces", field="spec.subnets"
        )
    actor.require("port:create", project["tenant_id"], project["id"])
    subnets = [
        _named(connection, subnet, project, text, f"spec.subnets.{number}")
        for number, text in enumerate(spec["subnets"])
    ]
    networks = {
        one: network_store.lock(connection, one) for one in sorted({row["network_id"] for row in subnets})
    }
    groups = [
        _named(connection, security_group, project, text, f"spec.security_groups.{number}", set(networks))
        for number, text in enumerate(spec["security_groups"])
    ]
    places: list[NewPort] = []
    for number, row in enumerate(subnets):
        network = networks[row["network_id"]]
        if network is None or network["wanted"] != "active":
            raise InvalidInputError("this network is being deleted", field=f"spec.subnets.{number}")
        of_network = [one for one in groups if one["network_id"] == network["id"]]
        places.append(NewPort(row, network, tuple(of_network)))
    return tuple(places)


def _named(
    connection: Connection,
    table: sa.Table,
    project: Row,
    text: str,
    field: str,
    networks: Collection[str] | None = None,
) -> Row:
    """Return the project's row of that id or name; of one of ``networks`` if they are given."""
    what = table.name.replace("_", " ")
    found = owned.find(connection, table, project_id=project["id"], id=text)
    found = found or owned.find(connection, table, project_id=project["id"], name=text)
    if networks is not None:
        found = [row for row in found if row["network_id"] in networks]
    if len(found) > 1:
        raise InvalidInputError(f"more than one {what} is called '{text}'; give the id", field=field)
    if not found:
        raise InvalidInputError(f"the project has no {what} '{text}' here", field=field)
    return found[0]


def keep(context: Context, made: Change, service: Row, machine: Machine) -> None:
    """Write what makes a service a machine, and plug its ports into it; in the transaction of the order."""
    service_id, connection = service["id"], made.connection
    spec = machine.spec
    digest = sha256(service_id.encode()).hexdigest()
    vm_store.insert(
        connection,
        {
            "service_id": service_id,
            "tenant_id": service["tenant_id"],
            "project_id": service["project_id"],
            "image_id": machine.image["id"],
            "host_name": host_name(service["name"]),
            # Of the service, so that it is the same for life; the form of RFC 9562, version 8.
            "uuid": f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}",
            "architecture": spec["architecture"],
            "vcpus": spec["vcpus"],
            "memory_mib": spec["memory_mib"],
            "disk_gib": spec["disk_gib"],
            "ssh_keys": list(machine.keys),
            "user_data": machine.user_data,
            "tags": dict(spec["tags"]),
            "nics": [
                {"bridge": bridge, "mac": mac_of(service_id, number)}
                for number, bridge in enumerate(spec["bridges"])
            ],
            "changed_at": context.clock.now(),
        },
    )
    for row in machine.ports:
        if not _take_port(connection, row["id"], service_id, _metadata(service, machine)):
            raise ConflictError(
                f"the port '{row['name']}' was taken by another machine meanwhile", field="spec.ports"
            )

    for number, place in enumerate(machine.places):
        port_actions.make(
            context,
            made,
            place.network,
            place.subnet,
            name=f"{host_name(service['name'])[:40]}-{service_id[-6:]}-{number}",
            groups=place.groups,
            of_machine={
                "service_id": service_id,
                "goes_with_machine": True,
                "metadata": _metadata(service, machine),
            },
        )


def _metadata(service: Row, machine: Machine) -> dict[str, Any]:
    """Return what a guest may read of itself beside what its port says."""
    keys = {str(number): {"openssh-key": line} for number, line in enumerate(machine.keys)}
    named = {"local-hostname": host_name(service["name"])}
    return {**named, "public-keys": keys} if keys else named


def _take_port(connection: Connection, port_id: str, service_id: str, metadata: dict[str, Any]) -> bool:
    statement = (
        port.update()
        .where(port.c.id == port_id, port.c.service_id.is_(None))
        .values(service_id=service_id, metadata=metadata)
    )
    return connection.execute(statement).rowcount == 1


def host_name(name: str) -> str:
    """Return the host name of a machine called ``name``."""
    return _HOST_CHARACTERS.sub("-", name.lower()).strip("-")[:63].strip("-") or "machine"
