"""Address pools: the operator's outside addresses, which tenants take from."""

from ipaddress import IPv4Address, IPv4Network

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.network import check_address
from penstock.domain.subnet import check_prefix
from penstock.store import address_pool as pool_store
from penstock.store import owned
from penstock.store.rows import Row
from penstock.store.schema import address_pool, floating_address


def create(context: Context, actor: Actor, *, name: str, prefix: str, gateway: str) -> Row:
    """Make a pool of a prefix that the external bridges of hosts lead to; ``gateway`` is the router there.

    ConflictError if the name is taken or the prefix overlaps another pool's.
    """
    checked, router = check_prefix(prefix), check_address(gateway, "gateway")
    _check_router(router, checked)
    pool_id = context.new_id("address_pool")
    with change(context, actor, "address_pool.create", pool_id) as made:
        actor.require("address_pool:create")
        row: Row = {
            "id": pool_id,
            "name": name,
            "prefix": str(checked),
            "gateway": str(router),
            "created_at": context.clock.now(),
        }
        if not owned.insert(made.connection, address_pool, row):
            raise ConflictError(
                f"a pool is called '{name}' already or overlaps {checked}; see `penstock address-pool list`",
                field="name",
            )
        made.done(
            "address_pool.created", pool_id, tenant_id=None, detail={"name": name, "prefix": row["prefix"]}
        )
    return {**row, "taken": 0}


def _check_router(router: IPv4Address, prefix: IPv4Network) -> None:
    if router not in prefix or router in (prefix.network_address, prefix.broadcast_address):
        raise InvalidInputError(f"the router is an address inside {prefix}", field="gateway")


def every_pool(context: Context, actor: Actor) -> list[Row]:
    """Return all pools by name with how many addresses are taken; every tenant may know them."""
    if not any(
        actor.may("address_pool:read", actor.tenant_id, p) for p in (None, *sorted(actor.project_ids or ()))
    ):
        actor.require("address_pool:read", actor.tenant_id)
    with context.db.transaction(actor.scope) as connection:
        return pool_store.every_pool(connection)


def delete(context: Context, actor: Actor, pool_id: str) -> None:
    """Delete a pool; ConflictError while somebody has an address of it."""
    with change(context, actor, "address_pool.delete", pool_id) as made:
        actor.require("address_pool:delete")
        row = owned.get(made.connection, address_pool, pool_id, lock=True)
        if row is None:
            raise not_found("address_pool", pool_id)
        taken = owned.count(made.connection, floating_address, pool_id=pool_id)
        if taken:
            raise ConflictError(f"{taken} addresses of this pool are taken", data={"taken": taken})
        owned.remove(made.connection, address_pool, pool_id)
        made.done("address_pool.deleted", pool_id, tenant_id=None, detail={"name": row["name"]})
