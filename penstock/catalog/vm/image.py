"""How an image that is made of a machine ends: whole, or not at all; in a transaction of the caller."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from penstock.catalog.vm.machine import tell
from penstock.domain.image import ImageState
from penstock.store import event as event_store
from penstock.store import owned
from penstock.store import vm as vm_store
from penstock.store import vm_image as vm_image_store
from penstock.store.rows import Row
from penstock.store.schema import image

TOPICS = ("event", "allocation", "service", "report")  # to signal after the commit


def end(connection: Connection, row: Row, values: Mapping[str, Any], now: datetime) -> bool:
    """Write how it ended, tell the machine's node and wake who waits for it; False if it is gone or has ended. System scope."""
    vm_store.get(connection, row["from_service_id"], lock=True)  # machines are locked first, everywhere
    held = owned.get(connection, image, row["id"], lock=True)
    if held is None or held["state"] != ImageState.PENDING:
        return False
    owned.change(connection, image, row["id"], values)
    said = {name: values[name] for name in ("sha256", "size_bytes", "message") if name in values}
    event_store.emit(
        connection,
        at=now,
        kind=f"image.{values['state']}",
        subject_id=row["id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        data={"name": row["name"], "vm": row["from_service_id"], **said},
    )
    vm_image_store.wake(connection, row["id"], now)
    tell(connection, row["from_service_id"])
    return True
