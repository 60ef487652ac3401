"""Tenants, for operators: who they are, what they may use and do use, and what they spend."""

from typing import Any

from starlette.responses import Response

from penstock.actions import principal as principal_actions
from penstock.actions import project as project_actions
from penstock.actions import quota as quota_actions
from penstock.actions import role_binding as role_binding_actions
from penstock.actions import spend as spend_actions
from penstock.actions import tenant as tenant_actions
from penstock.actions import usage as usage_actions
from penstock.actions import user as user_actions
from penstock.actions.usage import Dimension, UsageAsked
from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.formats import money
from penstock.console.home import live_services
from penstock.console.names import checked_email, checked_name
from penstock.console.quota import amount_of, choices, of_tenant
from penstock.domain.role import Role
from penstock.store.rows import Row


def list_tenants(visit: Visit) -> Response:
    """Show the tenants with what they spent this month."""
    return _list(visit)


def _list(visit: Visit, error: PenstockError | None = None) -> Response:
    rows = tenant_actions.list_page(visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX)
    usage = usage_actions.show(visit.context, visit.actor, UsageAsked(group_by=[Dimension.TENANT]))
    spend: dict[str, int] = {}
    for item in usage["items"]:
        spend[item["tenant_id"]] = spend.get(item["tenant_id"], 0) + (item["amount_microeur"] or 0)
    return visit.page(
        "tenants.html",
        error.status if error else 200,
        tenants=rows,
        spend=spend,
        total=usage["total_microeur"],
        error=error,
        field=visit.field,
        may_make=visit.actor.may("tenant:create"),
    )


def make(visit: Visit) -> Response:
    """Make a tenant with a first project and a first administrator."""
    name, email = visit.field("name"), visit.field("email")
    password = (visit.form.get("password") or [""])[0]
    try:
        checked_name(name)
        if email:
            checked_email(email)
        row = tenant_actions.create(
            visit.context, visit.actor, name=name, description=visit.field("description")[:2000]
        )
    except PenstockError as error:
        return _list(visit, error)
    said = f"The tenant '{name}' is made."
    try:
        project_actions.create(visit.context, visit.actor, tenant_id=row["id"], name="main", description="")
        if email:
            _first_person(visit, row["id"], email, password)
            said = f"{said} {email} may log in as its administrator."
    except PenstockError as error:
        return visit.go(f"/tenants/{row['id']}", f"{said} But: {error.sentence}")
    return visit.go(f"/tenants/{row['id']}", said)


def _first_person(visit: Visit, tenant_id: str, email: str, password: str) -> None:
    user = user_actions.create(
        visit.context, visit.actor, tenant_id=tenant_id, email=email, password=password
    )
    role_binding_actions.create(
        visit.context, visit.actor, principal_id=user["id"], role=Role.TENANT_ADMIN, project_id=None
    )


def show(visit: Visit) -> Response:
    """Show one tenant."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    row = tenant_actions.show(visit.context, visit.actor, visit.path("tenant_id"))
    if visit.actor.tenant_id is not None:
        return visit.go("/")
    tenant_id = row["id"]
    most: dict[str, Any] = {"tenant_id": tenant_id, "name": None, "after": None, "limit": limits.PAGE_MAX}
    return visit.page(
        "tenant.html",
        error.status if error else 200,
        tenant=row,
        quotas=of_tenant(visit, tenant_id),
        projects=project_actions.list_page(visit.context, visit.actor, **most),
        people=principal_actions.list_page(visit.context, visit.actor, "user", **most),
        programs=principal_actions.list_page(visit.context, visit.actor, "service_account", **most),
        services=_services(visit, tenant_id),
        usage=usage_actions.show(
            visit.context, visit.actor, UsageAsked(tenant_id=tenant_id, group_by=[Dimension.SERVICE])
        ),
        choices=choices(visit),
        error=error,
        may_write=visit.actor.may("tenant:suspend", tenant_id),
    )


def _services(visit: Visit, tenant_id: str) -> list[Row]:
    """Return the live services of a tenant, newest first."""
    return [row for row in live_services(visit) if row["tenant_id"] == tenant_id]


def set_quota(visit: Visit) -> Response:
    """Limit a tenant."""
    tenant_id = visit.path("tenant_id")
    try:
        dimension, amount = amount_of(visit)
        guaranteed = visit.whole("guaranteed", "Guaranteed") if visit.field("guaranteed") else None
        quota_actions.put(
            visit.context,
            visit.actor,
            tenant_id=tenant_id,
            project_id=None,
            dimension=dimension,
            limit=amount,
            guaranteed=guaranteed,
            keep_guaranteed=guaranteed is None,
        )
    except PenstockError as error:
        return _page(visit, error)
    return visit.go(
        f"/tenants/{tenant_id}", "The limit is set. Nothing is taken away by it; only more is refused."
    )


def ask_suspend(visit: Visit) -> Response:
    """Say what suspending does."""
    row = tenant_actions.show(visit.context, visit.actor, visit.path("tenant_id"))
    services = _services(visit, row["id"])
    rates = spend_actions.rates(visit.context, visit.actor).by_service
    hourly = sum(rates.get(one["id"], 0) for one in services)
    return confirm.ask(
        visit,
        title=f"Suspend {row['name']}?",
        effects=[
            "Its people and keys are refused at once, at the API, the console and the gateway.",
            (
                f"Its {len(services)} live services go on, and go on costing {money(hourly)} an hour for devices held; "
                "tokens stop, because its keys are refused."
            ),
            "You can let it in again at any time.",
        ],
        action=f"/tenants/{row['id']}/suspend",
        button=f"Suspend {row['name']}",
        back=(f"/tenants/{row['id']}", row["name"]),
        dangerous=True,
    )


def suspend(visit: Visit) -> Response:
    """Suspend a tenant."""
    row = tenant_actions.set_state(visit.context, visit.actor, visit.path("tenant_id"), suspended=True)
    return visit.go(f"/tenants/{row['id']}", f"{row['name']} is suspended.")


def activate(visit: Visit) -> Response:
    """Let a tenant in again."""
    row = tenant_actions.set_state(visit.context, visit.actor, visit.path("tenant_id"), suspended=False)
    return visit.go(f"/tenants/{row['id']}", f"{row['name']} is let in again.")


def ask_delete(visit: Visit) -> Response:
    """Say what deleting does."""
    row = tenant_actions.show(visit.context, visit.actor, visit.path("tenant_id"))
    return confirm.ask(
        visit,
        title=f"Delete {row['name']}?",
        effects=[
            "It is gone for good; its ledger and its invoices stay.",
            "It is refused while projects or live services are left.",
        ],
        action=f"/tenants/{row['id']}/delete",
        button=f"Delete {row['name']}",
        back=(f"/tenants/{row['id']}", row["name"]),
        dangerous=True,
    )


def delete(visit: Visit) -> Response:
    """Delete a tenant."""
    tenant_actions.delete(visit.context, visit.actor, visit.path("tenant_id"))
    return visit.go("/tenants", "The tenant is deleted.")


_ONE = "/tenants/{tenant_id}"
routes = [
    get("/tenants", list_tenants),
    post("/tenants", make),
    get(_ONE, show),
    post(f"{_ONE}/quotas", set_quota),
    get(f"{_ONE}/suspend", ask_suspend),
    post(f"{_ONE}/suspend", suspend, proof_at=f"{_ONE}/suspend"),
    post(f"{_ONE}/activate", activate),
    get(f"{_ONE}/delete", ask_delete),
    post(f"{_ONE}/delete", delete, proof_at=f"{_ONE}/delete"),
]
