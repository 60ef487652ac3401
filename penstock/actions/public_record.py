"""Public records: names of a tenant that the factory answers for to the world, if the operator has named a zone."""

from collections.abc import Sequence

from penstock.actions import network as network_actions
from penstock.actions import project as project_actions
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError
from penstock.domain.public_record import (
    PublicName,
    PublicType,
    PublicZone,
    check_public_record,
    check_public_zone,
    full_name,
    require_short,
)
from penstock.store import owned
from penstock.store import project as project_store
from penstock.store import public_record as record_store
from penstock.store import tenant as tenant_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from penstock.store.schema import public_record


def set_zone(
    context: Context, actor: Actor, *, suffix: str | None, name_servers: Sequence[str]
) -> PublicZone | None:
    """Serve a zone to the world, or (``suffix`` None) none any more; records stay. For operators."""
    named = None if suffix is None else check_public_zone(suffix, name_servers)
    with change(context, actor, "public_dns.put") as made:
        actor.require("public_dns:write")
        record_store.set_zone(made.connection, named)
        detail = {"suffix": None if named is None else named.suffix}
        made.done("public_dns.put", "", tenant_id=None, detail=detail)
    return named


def zone(context: Context, actor: Actor) -> tuple[PublicZone | None, str | None]:
    """Return the zone that is served, None if none is; and the caller's own part of it."""
    tenant_for_list(actor, "public_record:read", None)
    with context.db.transaction(actor.scope) as connection:
        named = record_store.zone(connection)
        tenant = None if actor.tenant_id is None else tenant_store.get(connection, actor.tenant_id)
        return named, None if named is None or tenant is None else named.of(tenant["name"])


def create(
    context: Context,
    actor: Actor,
    *,
    project_id: str,
    name: str,
    kind: str,
    value: str,
    ttl_seconds: int,
    description: str,
) -> Row:
    """Write a record; ConflictError if no zone is served, if it is there, or if a CNAME would not stand alone."""
    name, value = check_public_record(name, kind, value)
    record_id = context.new_id("public_record")
    with change(context, actor, "public_record.create", record_id) as made:
        project = project_actions.visible(made.connection, actor, project_id)
        actor.require("public_record:create", project["tenant_id"], project_id)
        named = record_store.zone(made.connection)
        if named is None:
            raise ConflictError("this factory serves no public zone; its operator may name one")
        tenant = tenant_store.get(made.connection, project["tenant_id"])
        require_short(name, named.of("" if tenant is None else tenant["name"]))
        if project_store.hold(made.connection, project_id) is None:
            raise not_found("project", project_id)
        record_store.hold(made.connection, project["tenant_id"])
        most = limits.PUBLIC_RECORDS_PER_PROJECT_MAX
        if owned.count(made.connection, public_record, project_id=project_id) >= most:
            raise ConflictError(f"a project has at most {most} public records; delete one first")
        others = owned.find(made.connection, public_record, tenant_id=project["tenant_id"], name=name)
        if any(PublicType.CNAME in (kind, other["type"]) for other in others):
            raise ConflictError(f"'{name}' has another record, and a CNAME stands alone", field="name")
        if any(other["type"] == kind and other["ttl_seconds"] != ttl_seconds for other in others):
            raise ConflictError("records of one name and type have one time to live", field="ttl_seconds")
        row: Row = {
            "id": record_id,
            "tenant_id": project["tenant_id"],
            "project_id": project_id,
            "name": name,
            "description": description,
            "created_at": context.clock.now(),
            "type": kind,
            "value": value,
            "ttl_seconds": ttl_seconds,
        }
        if not owned.insert(made.connection, public_record, row):
            raise ConflictError("this very record is there already", field="value")
        network_actions.record(made, "public_record.created", row, name=name, type=kind, value=value)
        return _shown(context, [row])[0]


def _shown(context: Context, rows: list[Row]) -> list[Row]:
    """Return records with the names by which the world knows them, None while no zone is served."""
    with context.db.transaction(SYSTEM) as connection:
        named = record_store.zone(connection)
        ids = {row["tenant_id"] for row in rows}
        tenants = {one: tenant_store.get(connection, one) for one in ids}
    return [
        {
            **row,
            "full_name": None
            if named is None or tenant is None
            else full_name(row["name"], named.of(tenant["name"])),
        }
        for row in rows
        for tenant in [tenants[row["tenant_id"]]]
    ]


def list_page(
    context: Context, actor: Actor, *, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` records that the caller may see, by id."""
    tenant_id = tenant_for_list(actor, "public_record:read", None)
    with context.db.transaction(actor.scope) as connection:
        rows = owned.page(
            connection,
            public_record,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            after=after,
            limit=limit,
            equal={"name": name},
        )
    return _shown(context, rows)


def show(context: Context, actor: Actor, record_id: str) -> Row:
    """Return one record; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        row = owned.get(connection, public_record, record_id)
        if row is None:
            raise not_found("public_record", record_id)
        actor.require_visible("public_record", row["tenant_id"], row["project_id"], record_id)
    return _shown(context, [row])[0]


def delete(context: Context, actor: Actor, record_id: str) -> None:
    """Remove a record; the world forgets it when its time to live is over."""
    with change(context, actor, "public_record.delete", record_id) as made:
        row = owned.get(made.connection, public_record, record_id)
        if row is None:
            raise not_found("public_record", record_id)
        actor.require_visible("public_record", row["tenant_id"], row["project_id"], record_id)
        actor.require("public_record:delete", row["tenant_id"], row["project_id"])
        owned.remove(made.connection, public_record, record_id)
        network_actions.record(made, "public_record.deleted", row, name=row["name"], type=row["type"])


def served(context: Context) -> tuple[PublicZone | None, Sequence[PublicName]]:
    """Return the zone and everything in it, for who answers the world."""
    with context.db.transaction(SYSTEM) as connection:
        named = record_store.zone(connection)
        return named, () if named is None else record_store.served(connection, named)
