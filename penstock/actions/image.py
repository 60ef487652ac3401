"""Images: what machines begin with. A tenant's own, or the operator's catalogue that everybody may use."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import project as project_actions
from penstock.actions import vm_image
from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.scope import tenant_for_list
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from penstock.catalog.vm.machine import tell
from penstock.domain.image import ImageState
from penstock.drivers.images.folder import Incoming, Kept
from penstock.drivers.web.fetch import check_url
from penstock.store import image as image_store
from penstock.store import owned
from penstock.store import project as project_store
from penstock.store import vm as vm_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from penstock.store.schema import image


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image as it was announced; ``project_id`` None: of the operator's catalogue."""

    project_id: str | None
    name: str
    description: str
    architecture: str
    shared: bool
    sha256: str | None
    provenance: str
    shared_with: Sequence[str] = ()
    source_url: str | None = None  # where the factory fetches it; None: it is sent
    vm_id: str | None = None  # the machine whose disk it is made of
    snapshot_id: str | None = None  # of that machine; None: the disk as it is now
    temporary: bool = False  # a clone's: it goes with the last machine that needs it


def create(context: Context, actor: Actor, asked: NewImage) -> Row:
    """Announce an image; its bytes follow with ``upload``, or are fetched. ConflictError if the name is taken."""
    if asked.source_url is not None:
        check_url(asked.source_url, "source_url")
    if asked.source_url is not None or asked.vm_id is not None:
        context.images.need_room(0)
    image_id = context.new_id("image")
    with change(context, actor, "image.create", image_id) as made:
        tenant_id = _owner(made.connection, actor, asked.project_id)
        source = vm_image.source(made.connection, actor, asked, tenant_id)
        sharing = _sharing(made.connection, actor, tenant_id, asked.shared_with)
        now = context.clock.now()
        row: Row = {
            "id": image_id,
            "tenant_id": tenant_id,
            "project_id": asked.project_id,
            "name": asked.name,
            "description": asked.description,
            "architecture": asked.architecture if source is None else source["architecture"],
            "shared": asked.shared,
            "shared_with": sharing,
            "published": asked.project_id is None,
            "state": ImageState.PENDING,
            "message": "",
            "sha256": asked.sha256,
            "size_bytes": 0,
            "virtual_bytes": 0,
            "provenance": _provenance(asked, source),
            "created_by": actor.principal_id,
            "created_at": now,
            "source_url": asked.source_url,
            "received_bytes": 0,
            "total_bytes": None,
            "due_at": None if asked.source_url is None else now,
            "from_service_id": asked.vm_id,
            "from_snapshot_id": asked.snapshot_id,
            "temporary": asked.temporary,
        }
        taken = ConflictError(f"there is an image '{asked.name}' already; choose another name", field="name")
        if asked.project_id is None and image_store.find(made.connection, None, asked.name) is not None:
            raise taken
        if not owned.insert(made.connection, image, row):
            raise taken
        detail = {"name": asked.name, "sha256": asked.sha256, "shared_with": sharing, **row["provenance"]}
        made.done(
            "image.created",
            image_id,
            tenant_id=tenant_id,
            project_id=asked.project_id,
            detail=detail,
        )
        if asked.vm_id is not None:
            tell(made.connection, asked.vm_id)
    if asked.source_url is not None:
        context.wakeups.signal("image")
    if asked.vm_id is not None:
        context.wakeups.signal("allocation")
    return row


def _provenance(asked: NewImage, source: Row | None) -> dict[str, Any]:
    if source is not None:
        what = {"source": "machine", "vm_id": asked.vm_id, "vm": source["name"], "said": asked.provenance}
        return what if asked.snapshot_id is None else {**what, "snapshot_id": asked.snapshot_id}
    if asked.source_url is None:
        return {"source": "upload", "said": asked.provenance}
    # What follows the question mark may be a signature that opens the file to whoever has it.
    return {"source": "url", "url": asked.source_url.partition("?")[0], "said": asked.provenance}


def _sharing(
    connection: Connection, actor: Actor, tenant_id: str | None, project_ids: Sequence[str]
) -> list[str]:
    """Return the projects that an image is shared with; InvalidInputError unless all are the tenant's."""
    if project_ids and tenant_id is None:
        raise InvalidInputError("everybody may use an image of the catalogue", field="shared_with")
    for project_id in project_ids:
        if project_actions.visible(connection, actor, project_id)["tenant_id"] != tenant_id:
            raise InvalidInputError(
                f"'{project_id}' is no project of the image's tenant", field="shared_with"
            )
    return sorted(set(project_ids))


def share(context: Context, actor: Actor, image_id: str, *, shared: bool, projects: Sequence[str]) -> Row:
    """Say which other projects of the tenant may use an image: all, or these. Machines that began with it stay."""
    with change(context, actor, "image.share", image_id) as made:
        row = _writable(made.connection, actor, image_id, "image:create")
        if row["tenant_id"] is None:
            raise ConflictError("everybody may use an image of the catalogue")
        sharing = _sharing(made.connection, actor, row["tenant_id"], projects)
        owned.change(made.connection, image, image_id, {"shared": shared, "shared_with": sharing})
        made.done(
            "image.shared",
            image_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"name": row["name"], "shared": shared, "shared_with": sharing},
        )
    return show(context, actor, image_id)


def _owner(connection: Connection, actor: Actor, project_id: str | None) -> str | None:
    if project_id is None:
        actor.require("image:publish")
        return None
    project = project_actions.visible(connection, actor, project_id)
    actor.require("image:create", project["tenant_id"], project_id)
    if project_store.hold(connection, project_id) is None:
        raise not_found("project", project_id)
    if owned.count(connection, image, project_id=project_id) >= limits.IMAGES_PER_PROJECT_MAX:
        raise ConflictError(f"a project has at most {limits.IMAGES_PER_PROJECT_MAX} images; delete one first")
    return str(project["tenant_id"])


def visible(connection: Connection, actor: Actor, image_id: str) -> Row:
    """Return an image that the caller may use: published, of his project, or shared in his tenant."""
    row = owned.get(connection, image, image_id)
    if row is None:
        raise not_found("image", image_id)
    if row["tenant_id"] is None:
        if not any(
            actor.may("image:read", actor.tenant_id, one) for one in (None, *(actor.project_ids or ()))
        ):
            raise not_found("image", image_id)
    else:
        actor.require_visible("image", row["tenant_id"], _seen_in(actor, row), image_id)
    return row


def _seen_in(actor: Actor, row: Row) -> str | None:
    """Return the project in which the caller may read an image: its own, or one that it is shared with."""
    everywhere = (None, *sorted(actor.project_ids or ())) if row["shared"] else ()
    places = (row["project_id"], *row["shared_with"], *everywhere)
    return next((one for one in places if actor.may("image:read", row["tenant_id"], one)), row["project_id"])


def _writable(connection: Connection, actor: Actor, image_id: str, permission: str) -> Row:
    row = visible(connection, actor, image_id)
    actor.require(permission if row["tenant_id"] else "image:publish", row["tenant_id"], row["project_id"])
    return row


def list_page(
    context: Context, actor: Actor, *, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` images that the caller may use, by id; published ones with them."""
    tenant_id = tenant_for_list(actor, "image:read", None)
    with context.db.transaction(actor.scope) as connection:
        return image_store.page(
            connection,
            tenant_id=tenant_id,
            project_ids=actor.project_ids,
            name=name,
            after=after,
            limit=limit,
        )


def show(context: Context, actor: Actor, image_id: str) -> Row:
    """Return one image; NotFoundError if absent or foreign."""
    with context.db.transaction(actor.scope) as connection:
        return visible(connection, actor, image_id)


@contextmanager
def upload(context: Context, actor: Actor, image_id: str) -> Generator["Upload"]:
    """Take the bytes of a pending image; ``Upload.finish`` must be called before the block ends.

    ConflictError if it has its bytes already; an image that is refused stays pending, so that it can be sent again.
    """
    with context.db.transaction(actor.scope) as connection:
        row = _writable(connection, actor, image_id, "image:create")
    if row["state"] == ImageState.ACTIVE:
        raise ConflictError("this image has its bytes already; an image never changes: make another one")
    if row["state"] != ImageState.PENDING or row["provenance"]["source"] != "upload":
        raise ConflictError("this image takes no bytes: it comes from elsewhere, failed or was deleted")
    with context.images.incoming(image_id) as incoming:
        taken = Upload(incoming, row["sha256"])
        yield taken
    with change(context, actor, "image.upload", image_id) as made:
        values: dict[str, Any] = {**asdict(taken.kept()), "state": ImageState.ACTIVE, "message": ""}
        owned.change(made.connection, image, image_id, values)
        made.done(
            "image.active",
            image_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"name": row["name"], "sha256": values["sha256"], "size_bytes": values["size_bytes"]},
        )


class Upload:
    """An image on its way in; ``announced`` is the SHA-256 it must have, None: any."""

    def __init__(self, incoming: Incoming, announced: str | None) -> None:
        self._incoming = incoming
        self._announced = announced
        self._kept: Kept | None = None

    def write(self, data: bytes) -> None:
        """Take more bytes; raises as soon as they show that this is no image, or too large a one."""
        self._incoming.write(data)

    def finish(self) -> None:
        """Judge the whole; InvalidInputError if it is not taken."""
        if self._incoming.size_bytes == 0:
            raise InvalidInputError("the body is the image, and it is empty", field="image")
        self._kept = self._incoming.finish(self._announced)

    def kept(self) -> Kept:
        """Return what was taken."""
        if self._kept is None:
            raise AssertionError("finish() was not called")
        return self._kept


def delete(context: Context, actor: Actor, image_id: str) -> None:
    """Delete an image and its bytes; ConflictError while machines that were started from it are there."""
    with change(context, actor, "image.delete", image_id) as made:
        row = _writable(made.connection, actor, image_id, "image:delete")
        with context.db.transaction(SYSTEM) as everywhere:  # machines of other tenants too
            users = vm_store.users_of_image(everywhere, image_id)
            used = vm_store.was_used(everywhere, image_id)
        if users:
            own = f": {', '.join(users)}" if row["tenant_id"] else ""
            raise ConflictError(f"machines that began with this image are there{own}; terminate them first")
        if used:
            image_store.retire(made.connection, image_id)
        else:
            owned.remove(made.connection, image, image_id)
        if row["from_service_id"] is not None and row["state"] == ImageState.PENDING:
            tell(made.connection, row["from_service_id"])
        made.done(
            "image.deleted",
            image_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail={"name": row["name"]},
        )
    context.images.remove(image_id)
    context.wakeups.signal("allocation")


def for_agent(context: Context, agent_id: str, image_id: str) -> Path:
    """Return the file of an image that a machine on an agent's nodes begins with; NotFoundError for any other."""
    with context.db.transaction(SYSTEM) as connection:
        if not image_store.wanted_at(connection, agent_id, image_id):
            raise NotFoundError(f"no image '{image_id}' is wanted of this agent")
    file = context.images.file(image_id)
    if not file.exists():
        raise UnavailableError(f"the image '{image_id}' is not in this replica's folder")
    return file
