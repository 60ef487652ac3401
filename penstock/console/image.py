"""Images that machines begin with: what there is, a new one with its bytes, who may use it, deleted."""

import re

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.actions import image as image_actions
from penstock.actions.image import NewImage
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, PenstockError, UnauthenticatedError
from penstock.console import confirm
from penstock.console.edge import Visit, check_request, get, post, to_log_in
from penstock.console.menu import may_see
from penstock.console.names import checked_name
from penstock.console.paging import paged
from penstock.console.projects import in_use, seen_projects
from penstock.console.secure import secured
from penstock.console.sheet import REFUSED, Box, Sheet, chosen, fill, named
from penstock.domain.image import IMAGE_STATE_SENTENCES
from penstock.store.rows import Row

ARCHITECTURES = ("x86_64", "aarch64")


def list_images(visit: Visit) -> Response:
    """Show the images, and how to make one."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    listed = paged(
        visit,
        lambda after, limit: image_actions.list_page(
            visit.context, visit.actor, name=None, after=after, limit=limit
        ),
    )
    projects = seen_projects(visit)
    factory = visit.actor.tenant_id is None
    return visit.page(
        "images.html",
        error.status if error else 200,
        images=listed.rows,
        after=listed.after,
        more=listed.more,
        projects=in_use(projects),
        project_names={one["id"]: one["name"] for one in projects},
        sentences=IMAGE_STATE_SENTENCES,
        may_make=visit.actor.may("image:publish") if factory else may_see(visit.actor, "image:create"),
        gibibytes_max=limits.IMAGE_BYTES_MAX >> 30,
        architectures=ARCHITECTURES,
        error=error,
        field=visit.field,
    )


def make(visit: Visit) -> Response:
    """Announce an image; its bytes follow from its row."""
    try:
        architecture = visit.field("architecture")
        if architecture not in ARCHITECTURES:
            raise InvalidInputError(f"choose one of {', '.join(ARCHITECTURES)}", field="architecture")
        if not re.fullmatch("([0-9a-f]{64})?", visit.field("sha256").strip().lower()):
            raise InvalidInputError("a SHA-256 has 64 hexadecimal digits", field="sha256")
        if len(visit.field("source_url")) > limits.URL_CHARACTERS_MAX:
            raise InvalidInputError(
                f"an address has at most {limits.URL_CHARACTERS_MAX} characters", field="source_url"
            )
        row = image_actions.create(
            visit.context,
            visit.actor,
            NewImage(
                None if visit.actor.tenant_id is None else visit.field("project"),
                checked_name(visit.field("name")),
                visit.field("description")[: limits.TEXT_CHARACTERS_MAX],
                architecture,
                visit.field("shared") == "on",
                visit.field("sha256").strip().lower() or None,
                "",
                source_url=visit.field("source_url").strip() or None,
            ),
        )
    except PenstockError as error:
        return _list(visit, error)
    if row["source_url"] is not None:
        return visit.go("/images", f"'{row['name']}' is being fetched; this page shows how far it is.")
    return visit.go("/images", f"'{row['name']}' is announced. Now send its file.")


async def upload(request: Request) -> Response:
    """Take an image as the body, as the page's script sends it; answers 204, or a sentence that says why not."""
    try:
        visit = await run_in_threadpool(check_request, request, {})
        opened = image_actions.upload(visit.context, visit.actor, visit.path("image_id"))
        taken = await run_in_threadpool(opened.__enter__)
        try:
            async for part in request.stream():
                await run_in_threadpool(taken.write, part)
            await run_in_threadpool(taken.finish)
        except BaseException as error:
            await run_in_threadpool(opened.__exit__, type(error), error, error.__traceback__)
            raise
        await run_in_threadpool(opened.__exit__, None, None, None)
    except UnauthenticatedError:
        return to_log_in(request)
    except PenstockError as error:
        return secured(Response(error.sentence, status_code=error.status, media_type="text/plain"))
    return secured(Response(status_code=204))


def show(visit: Visit) -> Response:
    """Show one image: how far it is, where it is from, who may use it."""
    row = image_actions.show(visit.context, visit.actor, visit.path("image_id"))
    names = {one["id"]: one["name"] for one in seen_projects(visit)}
    return visit.page(
        "image.html",
        image=row,
        sentence=IMAGE_STATE_SENTENCES[row["state"]],
        project=names.get(row["project_id"], ""),
        users=[names.get(one, one) for one in row["shared_with"]],
        sends=row["state"] == "pending"
        and row["provenance"]["source"] == "upload"
        and _may(visit, row, "create"),
        may_share=row["tenant_id"] is not None and _may(visit, row, "create"),
        may_delete=_may(visit, row, "delete"),
        gibibytes_max=limits.IMAGE_BYTES_MAX >> 30,
    )


def _may(visit: Visit, row: Row, verb: str) -> bool:
    """Tell whether the visitor may change an image; those of the catalogue are the operator's."""
    permission = f"image:{verb}" if row["tenant_id"] else "image:publish"
    return visit.actor.may(permission, row["tenant_id"], row["project_id"])


def others(visit: Visit, row: Row) -> list[Row]:
    """Return the projects that something of a project may be shared with: those of its tenant, without itself."""
    return [
        one
        for one in in_use(seen_projects(visit))
        if one["tenant_id"] == row["tenant_id"] and one["id"] != row["project_id"]
    ]


def _sharing(visit: Visit, row: Row) -> Sheet:
    return Sheet(
        f"Who may use {row['name']}",
        "Machines that began with it stay, whoever may use it from now on.",
        f"/images/{row['id']}/sharing",
        "Say so",
        [("/images", "Images"), (f"/images/{row['id']}", row["name"])],
        [
            Box(
                "shared",
                "Every project of this tenant, also those made later",
                "check",
                value="on" if row["shared"] else "",
            ),
            Box(
                "shared_with",
                "Or these projects",
                "pick",
                options=named(others(visit, row)),
                value=" ".join(row["shared_with"]),
                required=False,
            ),
        ],
    )


def _shareable(visit: Visit) -> Row:
    row = image_actions.show(visit.context, visit.actor, visit.path("image_id"))
    visit.actor.require("image:create", row["tenant_id"], row["project_id"])
    if row["tenant_id"] is None:
        raise ConflictError("everybody may use an image of the catalogue")
    return row


def ask_sharing(visit: Visit) -> Response:
    """Ask who may use an image."""
    return fill(visit, _sharing(visit, _shareable(visit)))


def share(visit: Visit) -> Response:
    """Say which other projects may use an image."""
    row = _shareable(visit)
    try:
        image_actions.share(
            visit.context,
            visit.actor,
            row["id"],
            shared=visit.field("shared") == "on",
            projects=chosen(visit, "shared_with", limits.IMAGE_SHARES_MAX),
        )
    except REFUSED as error:
        return fill(visit, _sharing(visit, row), error)
    return visit.go(f"/images/{row['id']}", "It is shared as you say.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting an image does."""
    row = image_actions.show(visit.context, visit.actor, visit.path("image_id"))
    visit.actor.require(
        "image:delete" if row["tenant_id"] else "image:publish", row["tenant_id"], row["project_id"]
    )
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=[
            "Nobody can launch machines from it any more. This cannot be undone; you can send it again.",
            "It is refused while machines that began with it are there.",
        ],
        action=f"/images/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=("/images", "Images"),
        dangerous=True,
    )


def delete(visit: Visit) -> Response:
    """Delete an image."""
    try:
        image_actions.delete(visit.context, visit.actor, visit.path("image_id"))
    except ConflictError as error:
        return _list(visit, error)
    return visit.go("/images", "The image is deleted.")


routes = [
    get("/images", list_images),
    post("/images", make),
    get("/images/{image_id}", show),
    get("/images/{image_id}/sharing", ask_sharing),
    post("/images/{image_id}/sharing", share),
    Route("/images/{image_id}/content", upload, methods=["POST"]),
    get("/images/{image_id}/delete", ask_delete),
    post("/images/{image_id}/delete", delete, proof_at="/images/{image_id}/delete"),
]
