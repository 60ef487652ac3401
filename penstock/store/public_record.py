"""Public records of tenants, and the zone that they are served in."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.public_record import PublicName, PublicZone, full_name
from penstock.store import setting as setting_store
from penstock.store.rows import every

_SETTING = "public_dns"
_ALL = sa.text(
    "SELECT t.name AS tenant_name, r.name, r.type, r.ttl_seconds, r.value FROM public_record r "
    "JOIN tenant t ON t.id = r.tenant_id WHERE t.state <> 'deleted' ORDER BY r.id"
)
_HOLD = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('public_record ' || :tenant_id, 0))")


def zone(connection: Connection) -> PublicZone | None:
    """Return the zone that the operator has named, None if none is served."""
    said = setting_store.get(connection, _SETTING)
    return None if not said else PublicZone(said["suffix"], tuple(said["name_servers"]))


def set_zone(connection: Connection, named: PublicZone | None) -> None:
    """Write which zone is served."""
    said = None if named is None else {"suffix": named.suffix, "name_servers": list(named.name_servers)}
    setting_store.put(connection, _SETTING, said)


def hold(connection: Connection, tenant_id: str) -> None:
    """Keep others from writing records of this tenant until the transaction ends."""
    connection.execute(_HOLD, {"tenant_id": tenant_id})


def served(connection: Connection, named: PublicZone) -> Sequence[PublicName]:
    """Return every record with its full name. System scope."""
    return [
        PublicName(
            full_name(row["name"], named.of(row["tenant_name"])),
            row["type"],
            row["ttl_seconds"],
            row["value"],
        )
        for row in every(connection.execute(_ALL))
    ]
