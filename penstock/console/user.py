"""Members: the people, programs and projects of a tenant, and who may do what."""

from collections.abc import Mapping

from starlette.responses import Response

from penstock.actions import principal as principal_actions
from penstock.actions import project as project_actions
from penstock.actions import role_binding as role_binding_actions
from penstock.actions import service_account as service_account_actions
from penstock.actions import totp as totp_actions
from penstock.actions import user as user_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.base.ids import is_id
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.names import checked_email, checked_name
from penstock.domain.role import Role
from penstock.store.rows import Row

ROLE_SENTENCES: Mapping[Role, str] = {
    Role.TENANT_ADMIN: "administrator: everything in the tenant",
    Role.MEMBER: "member: orders, calls, sees usage",
    Role.VIEWER: "viewer: sees what a member sees, consoles of machines too, changes and types nothing",
    Role.AUDITOR: "auditor: reads everything, changes nothing",
    Role.OPERATOR: "operator: runs the factory",
}


def list_members(visit: Visit) -> Response:
    """Show who belongs to the tenant, or to the factory for its operators."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    own = visit.actor.tenant_id
    people = _principals(visit, user_actions.KIND)
    programs = _principals(visit, service_account_actions.KIND)
    bindings = role_binding_actions.list_page(
        visit.context, visit.actor, tenant_id=own, principal_id=None, after=None, limit=limits.PAGE_MAX
    )
    roles: dict[str, list[Row]] = {}
    for binding in bindings:
        roles.setdefault(binding["principal_id"], []).append(binding)
    projects = (
        project_actions.list_page(
            visit.context, visit.actor, tenant_id=own, name=None, after=None, limit=limits.PAGE_MAX
        )
        if own is not None
        else []
    )
    return visit.page(
        "members.html",
        error.status if error else 200,
        people=people,
        programs=programs,
        roles=roles,
        projects=projects,
        project_names={project["id"]: project["name"] for project in projects},
        role_choices=_role_choices(own),
        may_change=visit.actor.may("principal:create", own),
        may_make_projects=own is not None and visit.actor.may("project:create", own),
        error=error,
        field=visit.field,
        characters_min=limits.PASSWORD_CHARACTERS_MIN,
    )


def _principals(visit: Visit, kind: str) -> list[Row]:
    rows = principal_actions.list_page(
        visit.context,
        visit.actor,
        kind,
        tenant_id=visit.actor.tenant_id,
        name=None,
        after=None,
        limit=limits.PAGE_MAX,
    )
    return [row for row in rows if row["tenant_id"] == visit.actor.tenant_id]


def _role_choices(tenant_id: str | None) -> list[tuple[str, str]]:
    of_tenant = (Role.MEMBER, Role.TENANT_ADMIN, Role.VIEWER, Role.AUDITOR)
    roles = (Role.OPERATOR, Role.AUDITOR) if tenant_id is None else of_tenant
    return [(role.value, ROLE_SENTENCES[role]) for role in roles]


def make_user(visit: Visit) -> Response:
    """Make a person with a first password and a role."""
    try:
        role = _role(visit)
        row = user_actions.create(
            visit.context,
            visit.actor,
            tenant_id=visit.actor.tenant_id,
            email=checked_email(visit.field("email")),
            password=(visit.form.get("password") or [""])[0],
        )
        role_binding_actions.create(
            visit.context, visit.actor, principal_id=row["id"], role=role, project_id=None
        )
    except PenstockError as error:
        return _page(visit, error)
    return visit.go("/members", f"{row['name']} may log in now. Hand the password over by a way you trust.")


def _role(visit: Visit) -> Role:
    try:
        return Role(visit.field("role"))
    except ValueError:
        raise InvalidInputError("choose a role", field="role") from None


def make_program(visit: Visit) -> Response:
    """Make a service account with a role; its keys are made on the page of keys."""
    try:
        role = _role(visit)
        row = service_account_actions.create(
            visit.context,
            visit.actor,
            tenant_id=visit.actor.tenant_id,
            name=checked_name(visit.field("name")),
        )
        role_binding_actions.create(
            visit.context, visit.actor, principal_id=row["id"], role=role, project_id=None
        )
    except PenstockError as error:
        return _page(visit, error)
    return visit.go(
        "/members", f"The service account '{row['name']}' is made; give it a key on the page Keys."
    )


def give_role(visit: Visit) -> Response:
    """Give somebody a role, in the whole tenant or in one project."""
    role_binding_actions.create(
        visit.context,
        visit.actor,
        principal_id=visit.path("principal_id"),
        role=_role(visit),
        project_id=visit.field("project") or None,
    )
    return visit.go("/members", "The role is given; it holds from the next request on.")


def take_role(visit: Visit) -> Response:
    """Take a role away."""
    role_binding_actions.delete(visit.context, visit.actor, visit.path("binding_id"))
    return visit.go("/members", "The role is taken away; it is gone from the next request on.")


def ask_disable(visit: Visit) -> Response:
    """Say what disabling does."""
    row = _shown(visit)
    return confirm.ask(
        visit,
        title=f"Disable {row['name']}?",
        effects=[
            "Sessions and keys are refused at once, at the API, the console and the gateway.",
            "What was ordered goes on running and costing.",
            "You can enable the account again at any time.",
        ],
        action=f"/members/{row['id']}/disable",
        button=f"Disable {row['name']}",
        back=("/members", "Members"),
        dangerous=True,
    )


def _shown(visit: Visit) -> Row:
    principal_id = visit.path("principal_id")
    is_program = is_id(principal_id, service_account_actions.KIND)
    kind = service_account_actions.KIND if is_program else user_actions.KIND
    return principal_actions.show(visit.context, visit.actor, kind, principal_id)


def disable(visit: Visit) -> Response:
    """Disable somebody."""
    return _set_disabled(visit, disabled=True)


def enable(visit: Visit) -> Response:
    """Enable somebody again."""
    return _set_disabled(visit, disabled=False)


def _set_disabled(visit: Visit, *, disabled: bool) -> Response:
    row = _shown(visit)
    principal_actions.set_disabled(visit.context, visit.actor, row["kind"], row["id"], disabled=disabled)
    return visit.go("/members", f"{row['name']} is {'disabled' if disabled else 'enabled'}.")


def ask_reset(visit: Visit) -> Response:
    """Ask for a new password of somebody who lost it."""
    visit.require_proof()
    row = _shown(visit)
    return visit.page("reset.html", row=row, error=None, characters_min=limits.PASSWORD_CHARACTERS_MIN)


def reset(visit: Visit) -> Response:
    """Set somebody's password, and take the second factor away if that is lost too."""
    row = _shown(visit)
    try:
        user_actions.set_password(
            visit.context,
            visit.actor,
            row["id"],
            password=(visit.form.get("password") or [""])[0],
            current_password=None,
        )
        if visit.field("second_factor") == "on":
            totp_actions.remove(visit.context, visit.actor, row["id"])
    except InvalidInputError as error:
        return visit.page(
            "reset.html", 422, row=row, error=error, characters_min=limits.PASSWORD_CHARACTERS_MIN
        )
    return visit.go("/members", f"{row['name']} has a new password; all sessions of theirs ended.")


def make_project(visit: Visit) -> Response:
    """Make a project."""
    try:
        row = project_actions.create(
            visit.context,
            visit.actor,
            tenant_id=None,
            name=checked_name(visit.field("name")),
            description=visit.field("description")[: limits.TEXT_CHARACTERS_MAX],
        )
    except PenstockError as error:
        return _page(visit, error)
    return visit.go("/members", f"The project '{row['name']}' is made.")


def ask_delete_project(visit: Visit) -> Response:
    """Say what deleting a project does."""
    row = project_actions.show(visit.context, visit.actor, visit.path("project_id"))
    return confirm.ask(
        visit,
        title=f"Delete the project {row['name']}?",
        effects=[
            "Keys that are confined to it are revoked, roles and quotas in it are gone.",
            "Its usage stays in the ledger and on invoices.",
            "It is refused while services of it live.",
        ],
        action=f"/projects/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=("/members", "Members"),
        dangerous=True,
    )


def delete_project(visit: Visit) -> Response:
    """Delete a project without live services."""
    project_actions.delete(visit.context, visit.actor, visit.path("project_id"))
    return visit.go("/members", "The project is deleted.")


_AGAIN = "/members/{principal_id}"
routes = [
    get("/members", list_members),
    post("/members/people", make_user, proof_at="/members"),
    post("/members/programs", make_program),
    post("/members/{principal_id}/roles", give_role, proof_at="/members"),
    post("/roles/{binding_id}/take", take_role, proof_at="/members"),
    get("/members/{principal_id}/disable", ask_disable),
    post("/members/{principal_id}/disable", disable, proof_at=f"{_AGAIN}/disable"),
    post("/members/{principal_id}/enable", enable),
    get("/members/{principal_id}/reset", ask_reset),
    post("/members/{principal_id}/reset", reset, proof_at=f"{_AGAIN}/reset"),
    post("/projects", make_project),
    get("/projects/{project_id}/delete", ask_delete_project),
    post("/projects/{project_id}/delete", delete_project, proof_at="/projects/{project_id}/delete"),
]
