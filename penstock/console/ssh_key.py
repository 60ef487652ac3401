"""SSH keys of a project: what machines may be entered with from their launch on."""

from starlette.responses import Response

from penstock.actions import ssh_key as ssh_key_actions
from penstock.base.errors import PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_make
from penstock.console.names import checked_name
from penstock.console.paging import paged
from penstock.console.projects import in_use, seen_projects


def list_keys(visit: Visit) -> Response:
    """Show the keys, and how to register one."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    listed = paged(
        visit,
        lambda after, limit: ssh_key_actions.list_page(
            visit.context, visit.actor, project_id=None, name=None, after=after, limit=limit
        ),
    )
    projects = seen_projects(visit)
    return visit.page(
        "ssh_keys.html",
        error.status if error else 200,
        keys=listed.rows,
        after=listed.after,
        more=listed.more,
        projects=in_use(projects),
        project_names={one["id"]: one["name"] for one in projects},
        may_make=may_make(visit.actor, "ssh_key:create"),
        deletable={
            row["id"]
            for row in listed.rows
            if visit.actor.may("ssh_key:delete", row["tenant_id"], row["project_id"])
        },
        error=error,
        field=visit.field,
    )


def make(visit: Visit) -> Response:
    """Register a key."""
    try:
        row = ssh_key_actions.create(
            visit.context,
            visit.actor,
            project_id=visit.field("project"),
            name=checked_name(visit.field("name")),
            public_key=visit.field("public_key"),
        )
    except PenstockError as error:
        return _list(visit, error)
    return visit.go("/ssh-keys", f"'{row['name']}' is registered; choose it when you launch a machine.")


def ask_delete(visit: Visit) -> Response:
    """Say what forgetting a key does."""
    row = ssh_key_actions.show(visit.context, visit.actor, visit.path("ssh_key_id"))
    visit.actor.require("ssh_key:delete", row["tenant_id"], row["project_id"])
    return confirm.ask(
        visit,
        title=f"Forget {row['name']}?",
        effects=[
            "Machines that are launched later cannot name it any more.",
            "Machines that were launched with it keep it: remove it inside them if it must not open them.",
        ],
        action=f"/ssh-keys/{row['id']}/delete",
        button=f"Forget {row['name']}",
        back=("/ssh-keys", "SSH keys"),
    )


def delete(visit: Visit) -> Response:
    """Forget a key."""
    ssh_key_actions.delete(visit.context, visit.actor, visit.path("ssh_key_id"))
    return visit.go("/ssh-keys", "The key is forgotten.")


routes = [
    get("/ssh-keys", list_keys),
    post("/ssh-keys", make),
    get("/ssh-keys/{ssh_key_id}/delete", ask_delete),
    post("/ssh-keys/{ssh_key_id}/delete", delete),
]
