"""Images made of machines: the node that has the disk copies it and sends it here."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from penstock.actions.context import Actor, Context, not_found
from penstock.actions.vm import require_settled, visible
from penstock.actions.vm_snapshot import with_state
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError
from penstock.catalog.vm.image import TOPICS, end
from penstock.domain.image import ImageState
from penstock.domain.service import ServiceState
from penstock.drivers.images.folder import Incoming, Kept
from penstock.store import owned
from penstock.store import vm_image as vm_image_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from penstock.store.schema import vm_snapshot

if TYPE_CHECKING:
    from penstock.actions.image import NewImage
_SHA256 = re.compile("[0-9a-f]{64}")


def source(connection: Connection, actor: Actor, asked: "NewImage", tenant_id: str | None) -> Row | None:
    """Return the machine that an image is to be made of, locked; None if it is of none.

    ConflictError if it cannot be copied now, InvalidInputError for what contradicts itself.
    """
    if asked.vm_id is None:
        if asked.snapshot_id is not None:
            raise InvalidInputError("name the machine whose snapshot this is", field="vm_id")
        return None
    if asked.source_url is not None or asked.sha256 is not None:
        raise InvalidInputError("an image is made of a machine or comes from an address", field="vm_id")
    row = visible(connection, actor, asked.vm_id, lock=True)
    actor.require("vm:update", row["tenant_id"], row["project_id"])
    if row["tenant_id"] != tenant_id:
        raise InvalidInputError(
            "an image of a machine belongs to a project of its tenant", field="project_id"
        )
    if row["move"] is not None:
        raise ConflictError("this machine is under way to another host; try again when it has arrived")
    if row["service_state"] != ServiceState.RUNNING:  # a change under way is brought about first
        require_settled(row)
    if len(vm_image_store.exports_of(connection, asked.vm_id)) >= limits.VM_EXPORTS_MAX:
        raise ConflictError(f"{limits.VM_EXPORTS_MAX} images are being made of this machine; wait for one")
    if asked.snapshot_id is not None:
        _require_ready(connection, row, asked.snapshot_id)
    return row


def _require_ready(connection: Connection, row: Row, snapshot_id: str) -> None:
    snapshot = owned.get(connection, vm_snapshot, snapshot_id)
    if snapshot is None or snapshot["service_id"] != row["service_id"]:
        raise not_found("vm_snapshot", snapshot_id)
    if with_state(snapshot, row)["state"] != "ready":
        raise ConflictError("this snapshot is not ready; see `penstock vm snapshots`")


class Taking:
    """An image on its way from a node; ``sha256`` is what the node says that it has."""

    def __init__(self, incoming: Incoming, sha256: str) -> None:
        self._incoming = incoming
        self._sha256 = sha256
        self.kept: Kept | None = None

    def write(self, data: bytes) -> None:
        """Take more bytes; raises as soon as they show that this is no image, or too large a one."""
        self._incoming.write(data)

    def finish(self) -> None:
        """Judge the whole; InvalidInputError if it is not what was announced."""
        self.kept = self._incoming.finish(self._sha256)


@contextmanager
def take(context: Context, agent_id: str, image_id: str, sha256: str) -> Generator[Taking]:
    """Take an image that an agent was told to make; ``finish`` must be called before the block ends.

    NotFoundError for any other. One that is refused for what it is has failed; one that is cut off may be sent again.
    """
    if not _SHA256.fullmatch(sha256):
        raise InvalidInputError("say the SHA-256 of the image", field="sha256")
    with context.db.transaction(SYSTEM) as connection:
        row = vm_image_store.of_agent(connection, agent_id, image_id)
    if row is None:
        raise NotFoundError(f"no image '{image_id}' is to be made by this agent")
    try:
        with context.images.incoming(image_id) as incoming:
            taking = Taking(incoming, sha256)
            yield taking
    except (InvalidInputError, TooLargeError) as error:
        if error.field != "sha256":  # cut short or changed on its way: the node sends it again
            _end(context, row, {"state": ImageState.FAILED, "message": error.sentence})
        raise
    if taking.kept is None:
        raise AssertionError("finish() was not called")
    kept = taking.kept
    facts = {"sha256": kept.sha256, "size_bytes": kept.size_bytes, "virtual_bytes": kept.virtual_bytes}
    ended = {
        **facts,
        "state": ImageState.ACTIVE,
        "received_bytes": kept.size_bytes,
        "total_bytes": kept.size_bytes,
    }
    if not _end(context, row, ended):
        context.images.remove(image_id)
        raise NotFoundError(f"the image '{image_id}' was deleted meanwhile")


def _end(context: Context, row: Row, values: dict[str, Any]) -> bool:
    ended = context.db.retrying(SYSTEM, lambda c: end(c, row, values, context.clock.now()))
    for topic in TOPICS:
        context.wakeups.signal(topic)
    return ended
