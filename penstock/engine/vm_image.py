"""The engine's part of images that are made of machines: what cannot come has failed, and clones' images go unused."""

from datetime import timedelta

from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.catalog.vm.image import TOPICS, end
from penstock.domain.image import ImageState
from penstock.drivers.images.folder import ImageFolder
from penstock.store import event as event_store
from penstock.store import image as image_store
from penstock.store import vm_image as vm_image_store
from penstock.store.database import SYSTEM, Database
from penstock.store.rows import Row
from penstock.store.wakeups import Wakeups

FAILED = Counter("penstock_vm_images_failed_total", "Images of machines that could not be made.")
DROPPED = Counter("penstock_clone_images_dropped_total", "Images of clones that no machine needed any more.")
ORDER_TIME = timedelta(minutes=10)  # between a clone's image and its order there are moments


def settle(db: Database, clock: Clock, wakeups: Wakeups, images: ImageFolder) -> int:
    """Fail what cannot come any more, and drop what clones left; return how many."""
    now = clock.now()
    with db.transaction(SYSTEM) as connection:
        late = vm_image_store.ended(connection, now - limits.IMAGE_FETCH_DEADLINE, limits.ENGINE_BATCH)
        unused = vm_image_store.unused(connection, now - ORDER_TIME, limits.ENGINE_BATCH)
    for row in late:
        values = {"state": ImageState.FAILED, "message": row["why"]}
        if db.retrying(SYSTEM, lambda c, row=row, values=values: end(c, row, values, now)):
            FAILED.inc()
    for row in unused:
        db.retrying(SYSTEM, lambda c, row=row: _drop(c, row, clock))
        images.remove(row["id"])
        DROPPED.inc()
    if late or unused:
        for topic in TOPICS:
            wakeups.signal(topic)
    return len(late) + len(unused)


def _drop(connection: Connection, row: Row, clock: Clock) -> None:
    """Keep the row, which says what machines were cloned from, without its name and bytes."""
    image_store.retire(connection, row["id"])
    event_store.emit(
        connection,
        at=clock.now(),
        kind="image.deleted",
        subject_id=row["id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        data={"name": row["name"], "why": "no machine needs this clone's image any more"},
    )
