"""Security groups: who may reach whom. Every change of a rule is in the audit trail with the rule before or after."""

from typing import Any

from penstock.actions import network as network_actions
from penstock.actions import network_part
from penstock.actions.change import Change, change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.security_group import Scope, check_match, egress_default
from penstock.store import owned
from penstock.store import security_group as group_store
from penstock.store.rows import Row
from penstock.store.schema import node, port, security_binding, security_group, security_rule, service, subnet


def create(
    context: Context, actor: Actor, *, network_id: str, name: str, description: str, allow_egress: bool
) -> Row:
    """Make a group that lets nothing in, and everything out if ``allow_egress``."""
    group_id = context.new_id("security_group")
    with change(context, actor, "security_group.create", group_id) as made:
        network = network_actions.held(made, actor, network_id, "security_group:create")
        network_part.require_room(
            made.connection, security_group, network, limits.SECURITY_GROUPS_PER_NETWORK_MAX
        )
        row = network_part.base_row(context, network, group_id, name, description)
        if not owned.insert(made.connection, security_group, row):
            raise network_part.name_taken(security_group, name)
        if allow_egress:
            _insert_rule(context, made, row, dict(egress_default()), None, "everything may go out")
        network_actions.record(made, "security_group.created", row, name=name, allow_egress=allow_egress)
        return _with_parts(made, [row])[0]


def _insert_rule(
    context: Context, made: Change, group: Row, match: dict[str, Any], remote: str | None, description: str
) -> Row:
    rule: Row = {
        "id": context.new_id("security_rule"),
        "tenant_id": group["tenant_id"],
        "project_id": group["project_id"],
        "group_id": group["id"],
        **match,
        "remote_group_id": remote,
        "description": description,
        "created_at": context.clock.now(),
    }
    owned.insert(made.connection, security_rule, rule)
    return rule


def _with_parts(made: Change, rows: list[Row]) -> list[Row]:
    ids = [row["id"] for row in rows]
    rules, bindings = (
        group_store.rules_of(made.connection, ids),
        group_store.bindings_of(made.connection, ids),
    )
    return [{**row, "rules": rules[row["id"]], "bindings": bindings[row["id"]]} for row in rows]


def list_page(
    context: Context, actor: Actor, *, network_id: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` groups with their rules and bindings, by id."""
    equal = {"name": name}
    rows = network_part.list_page(
        context, actor, security_group, network_id=network_id, after=after, limit=limit, equal=equal
    )
    return _filled(context, actor, rows)


def show(context: Context, actor: Actor, group_id: str) -> Row:
    """Return one group with its rules and bindings; NotFoundError if absent or foreign."""
    return _filled(context, actor, [network_part.show(context, actor, security_group, group_id)])[0]


def _filled(context: Context, actor: Actor, rows: list[Row]) -> list[Row]:
    with context.db.transaction(actor.scope) as connection:
        return _with_parts(Change(context, connection, actor, "security_group.read"), rows) if rows else []


def delete(context: Context, actor: Actor, group_id: str) -> None:
    """Delete a group with its rules; ConflictError while it is bound or another group's rule names it."""
    with change(context, actor, "security_group.delete", group_id) as made:
        row = network_part.visible(made.connection, actor, security_group, group_id)
        network_actions.held(made, actor, row["network_id"], "security_group:delete")
        bound = owned.count(made.connection, security_binding, group_id=group_id)
        if bound:
            raise ConflictError(
                f"the group is bound to {bound} objects; take it off them first", data={"bindings": bound}
            )
        if group_store.named_by_others(made.connection, group_id):
            raise ConflictError("a rule of another group names this one; remove that rule first")
        group_store.remove(made.connection, group_id)
        network_actions.record(made, "security_group.deleted", row, name=row["name"])


def add_rule(
    context: Context,
    actor: Actor,
    group_id: str,
    *,
    direction: str,
    protocol: str,
    port_min: int | None,
    port_max: int | None,
    prefix: str | None,
    remote_group_id: str | None,
    description: str,
) -> Row:
    """Let something through; the other side is a prefix, a group of the same network, or (neither) anybody."""
    if prefix is not None and remote_group_id is not None:
        raise InvalidInputError("name a prefix or a group, not both", field="remote_group_id")
    match = check_match(
        direction=direction, protocol=protocol, port_min=port_min, port_max=port_max, prefix=prefix
    )
    with change(context, actor, "security_group.add_rule", group_id) as made:
        row = network_part.visible(made.connection, actor, security_group, group_id)
        network = network_actions.held(made, actor, row["network_id"], "security_group:update")
        if remote_group_id is not None:
            network_part.within(made.connection, network, security_group, remote_group_id)
        if owned.count(made.connection, security_rule, group_id=group_id) >= limits.RULES_PER_GROUP_MAX:
            raise ConflictError(f"a group has at most {limits.RULES_PER_GROUP_MAX} rules; remove one first")
        rule = _insert_rule(context, made, row, match, remote_group_id, description)
        network_actions.touch(context, made, row["network_id"])
        network_actions.record(made, "security_group.rule_added", row, rule=_told(rule))
    context.wakeups.signal("network")
    return rule


def _told(rule: Row) -> dict[str, object]:
    """Return a rule as the audit trail has it."""
    names = ("id", "direction", "protocol", "port_min", "port_max", "prefix", "remote_group_id")
    return {name: rule[name] for name in names}


def remove_rule(context: Context, actor: Actor, group_id: str, rule_id: str) -> None:
    """Let something through no longer; what flows because of it is cut."""
    with change(context, actor, "security_group.remove_rule", group_id) as made:
        row = network_part.visible(made.connection, actor, security_group, group_id)
        network_actions.held(made, actor, row["network_id"], "security_group:update")
        rule = owned.get(made.connection, security_rule, rule_id)
        if rule is None or rule["group_id"] != group_id:
            raise not_found("security_rule", rule_id)
        owned.remove(made.connection, security_rule, rule_id)
        network_actions.touch(context, made, row["network_id"])
        network_actions.record(made, "security_group.rule_removed", row, rule=_told(rule))
    context.wakeups.signal("network")


def bind(context: Context, actor: Actor, group_id: str, scope: Scope, target_id: str) -> Row:
    """Make a group hold for a port, a service, a subnet, a node (operators) or its whole network. Repeatable."""
    with change(context, actor, "security_group.bind", group_id) as made:
        row = network_part.visible(made.connection, actor, security_group, group_id)
        network = network_actions.held(made, actor, row["network_id"], "security_group:update")
        _require_target(made, actor, network, scope, target_id)
        if (
            owned.count(made.connection, security_binding, network_id=network["id"])
            >= limits.BINDINGS_PER_NETWORK_MAX
        ):
            raise ConflictError(
                f"a network has at most {limits.BINDINGS_PER_NETWORK_MAX} bindings; bind subnets instead"
            )
        binding: Row = {
            "group_id": group_id,
            "target_id": target_id,
            "scope": scope.value,
            "tenant_id": row["tenant_id"],
            "network_id": row["network_id"],
            "created_at": context.clock.now(),
        }
        if group_store.bind(made.connection, binding):
            network_actions.touch(context, made, row["network_id"])
            network_actions.record(made, "security_group.bound", row, scope=scope.value, target=target_id)
        shown = _with_parts(made, [row])[0]
    context.wakeups.signal("network")
    return shown


def _require_target(made: Change, actor: Actor, network: Row, scope: Scope, target_id: str) -> None:
    if scope in (Scope.PORT, Scope.SUBNET):
        network_part.within(made.connection, network, port if scope is Scope.PORT else subnet, target_id)
    elif scope is Scope.SERVICE:
        found = owned.get(made.connection, service, target_id)
        if found is None or found["project_id"] != network["project_id"]:
            raise not_found("service", target_id)
    elif scope is Scope.NODE:
        actor.require_visible("node", None, None, target_id)
        if owned.get(made.connection, node, target_id) is None:
            raise not_found("node", target_id)
    elif target_id != network["id"]:
        raise InvalidInputError("a group is bound to its own network only", field="target_id")


def unbind(context: Context, actor: Actor, group_id: str, target_id: str) -> Row:
    """Make a group no longer hold for a target. Repeatable."""
    with change(context, actor, "security_group.unbind", group_id) as made:
        row = network_part.visible(made.connection, actor, security_group, group_id)
        network_actions.held(made, actor, row["network_id"], "security_group:update")
        if group_store.unbind(made.connection, group_id, target_id):
            network_actions.touch(context, made, row["network_id"])
            network_actions.record(made, "security_group.unbound", row, target=target_id)
        shown = _with_parts(made, [row])[0]
    context.wakeups.signal("network")
    return shown
