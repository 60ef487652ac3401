"""Records of a network's private zone. Ports are in it by themselves, under their names."""

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import ConflictError
from penstock.domain.dns_record import RecordType, check_record
from penstock.store import owned
from penstock.store.rows import Row
from penstock.store.schema import dns_record, port


def create(
    context: Context, actor: Actor, *, network_id: str, name: str, kind: str, value: str, description: str
) -> Row:
    """Write a record; ConflictError if it is there, or if the name is a port's or has a CNAME."""
    name, value = check_record(name, kind, value)
    record_id = context.new_id("dns_record")
    with change(context, actor, "dns_record.create", record_id) as made:
        network = network_actions.held(made, actor, network_id, "dns_record:create")
        network_part.require_room(made.connection, dns_record, network, limits.DNS_RECORDS_PER_NETWORK_MAX)
        others = owned.find(made.connection, dns_record, network_id=network_id, name=name)
        ports = owned.find(made.connection, port, network_id=network_id, name=name)
        alone = [other for other in others if RecordType.CNAME in (kind, other["type"])]
        if alone or (ports and kind == RecordType.CNAME):
            raise ConflictError(f"'{name}' has another record, and a CNAME stands alone", field="name")
        row: Row = {
            **network_part.base_row(context, network, record_id, name, description),
            "type": kind,
            "value": value,
        }
        if not owned.insert(made.connection, dns_record, row):
            raise ConflictError("this very record is there already", field="value")
        network_actions.touch(context, made, network_id)
        network_actions.record(made, "dns_record.created", row, name=name, type=kind, value=value)
    context.wakeups.signal("network")
    return row


def delete(context: Context, actor: Actor, record_id: str) -> None:
    """Remove a record."""
    with change(context, actor, "dns_record.delete", record_id) as made:
        row = network_part.visible(made.connection, actor, dns_record, record_id)
        network_actions.held(made, actor, row["network_id"], "dns_record:delete")
        owned.remove(made.connection, dns_record, record_id)
        network_actions.touch(context, made, row["network_id"])
        network_actions.record(made, "dns_record.deleted", row, name=row["name"], type=row["type"])
    context.wakeups.signal("network")
