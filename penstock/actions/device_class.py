"""Device classes: the shipped ones at first start, then whatever operators add or correct."""

from typing import Any

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.enrolment import UNKNOWN_CLASS
from penstock.actions.scope import places
from penstock.base.errors import ConflictError
from penstock.domain.device import DeviceClass
from penstock.store import device_class as device_class_store
from penstock.store import power_budget as power_budget_store
from penstock.store.database import SYSTEM


def seed(context: Context) -> list[str]:
    """Add the shipped device classes that are missing; what operators changed stays. Return those added."""
    with context.db.transaction(SYSTEM) as connection:
        added = device_class_store.add_missing(connection, [*context.device_classes.values(), UNKNOWN_CLASS])
    read_again(context)
    return added


def read_again(context: Context) -> None:
    """Take over what other replicas added or corrected."""
    with context.db.transaction(SYSTEM) as connection:
        known = device_class_store.every_class(connection)
    known.pop(UNKNOWN_CLASS.name, None)  # what no class matches is not for sale by class
    context.device_classes.update(known)


def page(context: Context, actor: Actor) -> list[dict[str, Any]]:
    """Return every class by name; there are tens of them."""
    require_read(actor, "device_class:read")
    with context.db.transaction(actor.scope) as connection:
        classes = device_class_store.every_class(connection)
    return [shown(class_) for class_ in classes.values()]


def get(context: Context, actor: Actor, name: str) -> dict[str, Any]:
    """Return one class; raises NotFoundError."""
    require_read(actor, "device_class:read")
    with context.db.transaction(actor.scope) as connection:
        class_ = device_class_store.get(connection, name)
    if class_ is None:
        raise not_found("device_class", name)
    return shown(class_)


def put(context: Context, actor: Actor, class_: DeviceClass) -> dict[str, Any]:
    """Add a class or replace what is said of it.

    Raises ConflictError if the number of slices of a class that has devices would change: they are held and
    metered by slices. Devices that a new class matches join it at the next enrolment of their node.
    """
    with change(context, actor, "device_class.put", class_.name) as made:
        actor.require("device_class:write")
        connection = made.connection
        power_budget_store.count_alone(connection)
        before = device_class_store.get(connection, class_.name)
        if class_.name == UNKNOWN_CLASS.name:
            raise ConflictError("'unknown' is the class of what no class matches; use another name")
        if before is not None and before.slices != class_.slices:
            devices = device_class_store.devices_of(connection, class_.name)
            if devices:
                raise ConflictError(
                    f"{devices} devices of class '{class_.name}' are cut into {before.slices} slices; add a class with "
                    "another name for another cut",
                    field="slices",
                    data={"devices": devices, "slices": before.slices},
                )
        device_class_store.put(connection, class_)
        power_budget_store.recount(connection)
        detail = {"before": None if before is None else shown(before), "after": shown(class_)}
        made.done("device_class.changed", class_.name, tenant_id=None, detail=detail)
    context.device_classes[class_.name] = class_  # orders here know it at once, other replicas a moment later
    context.wakeups.signal("device_class")
    return shown(class_)


def shown(class_: DeviceClass) -> dict[str, Any]:
    """Return a class as the API shows it."""
    return {"name": class_.name, **device_class_store.to_data(class_)}


def require_read(actor: Actor, permission: str) -> None:
    """Raise ForbiddenError unless the caller has ``permission`` in some place: the object is of the factory."""
    if not any(actor.may(permission, actor.tenant_id, project_id) for project_id in places(actor)):
        actor.require(permission, actor.tenant_id)
