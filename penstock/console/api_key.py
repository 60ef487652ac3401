"""Keys: list, make, show once with snippets, revoke after saying what stops."""

from datetime import timedelta

from starlette.responses import Response

from penstock.actions import api_key as api_key_actions
from penstock.actions import principal as principal_actions
from penstock.actions import service as service_actions
from penstock.actions import service_account as service_account_actions
from penstock.actions.api_key import NewKey
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_see
from penstock.console.projects import seen_projects
from penstock.domain.role import SCOPES
from penstock.store.rows import Row

SCOPE_SENTENCES = {
    "llm": "call endpoints, and nothing else",
    "services": "order, watch and release services",
    "read": "read everything you may read",
    "*": "everything you may do",
}
DAYS = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"))


def list_keys(visit: Visit) -> Response:
    """Show the keys."""
    return _page(visit)


def _keys(visit: Visit) -> list[Row]:
    return api_key_actions.list_page(
        visit.context,
        visit.actor,
        tenant_id=None,
        principal_id=None,
        sessions=False,
        after=None,
        limit=limits.PAGE_MAX,
    )


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    now = visit.context.clock.now()
    keys = _keys(visit)
    return visit.page(
        "keys.html",
        error.status if error else 200,
        keys=sorted(keys, key=lambda key: (state_of(key, now) != "active", key["created_at"])),
        states={key["id"]: state_of(key, now) for key in keys},
        owners=_owners(visit),
        projects=seen_projects(visit),
        scopes=[(name, SCOPE_SENTENCES.get(name, name)) for name in ("llm", "services", "read", "*")],
        days=DAYS,
        error=error,
        field=visit.field,
        may_make=may_see(visit.actor, "api_key:own"),
    )


def state_of(key: Row, now: object) -> str:
    """Return whether a key is active, revoked or ended."""
    if key["revoked_at"] is not None:
        return "revoked"
    return "ended" if key["expires_at"] is not None and key["expires_at"] <= now else "active"


def _owners(visit: Visit) -> dict[str, str]:
    """Return the names of whom keys can belong to: oneself, and service accounts for who administers them."""
    owners = {visit.actor.principal_id: f"{visit.actor.name} (you)"}
    if may_see(visit.actor, "principal:read"):
        for kind in ("user", service_account_actions.KIND):
            rows = principal_actions.list_page(
                visit.context, visit.actor, kind, tenant_id=None, name=None, after=None, limit=limits.PAGE_MAX
            )
            owners |= {row["id"]: row["name"] for row in rows if row["id"] not in owners}
    return owners


def make(visit: Visit) -> Response:
    """Make a key and show its text, this once."""
    try:
        days = visit.whole("days", "The life of a key in days")
        asked = NewKey(
            name=_name(visit),
            scopes=[scope for scope in visit.form.get("scope", []) if scope in SCOPES],
            life=timedelta(days=min(max(days, 0), 10_000)),
            principal_id=visit.field("principal") or None,
            project_id=visit.field("project") or None,
            requests_per_minute=_limit(visit, "requests_per_minute", "Requests per minute"),
            tokens_per_minute=_limit(visit, "tokens_per_minute", "Tokens per minute"),
        )
        row, text = api_key_actions.create(visit.context, visit.actor, asked)
    except PenstockError as error:
        return _page(visit, error)
    endpoints: list[Row] = []
    if may_see(visit.actor, "service:read"):
        endpoints = service_actions.list_page(
            visit.context,
            visit.actor,
            project=row["project_id"],
            states=("running", "degraded", "asleep"),
            kind="llm",
            name=None,
            after=None,
            limit=1,
        )
    return visit.page(
        "key_made.html",
        key=row,
        text=text,
        model=endpoints[0]["name"] if endpoints else "your-endpoint",
        gateway_url=visit.request.app.state.gateway_url(),
    )


def _name(visit: Visit) -> str:
    name = visit.field("name")
    if not name or len(name) > limits.NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidInputError(
            f"give the key a name of up to {limits.NAME_CHARACTERS_MAX} characters", field="name"
        )
    return name


def _limit(visit: Visit, name: str, title: str) -> int | None:
    if not visit.field(name):
        return None
    number = visit.whole(name, title)
    if not 1 <= number < 1 << 31:
        raise InvalidInputError(f"{title}: give a number of 1 and more, or nothing", field=name)
    return number


def ask_revoke(visit: Visit) -> Response:
    """Say what revoking a key does."""
    key = api_key_actions.show(visit.context, visit.actor, visit.path("key_id"))
    return confirm.ask(
        visit,
        title=f"Revoke the key {key['name']}?",
        effects=[
            f"Whatever uses {key['prefix']}... is refused at once, at the API and at the gateway.",
            "Services that were ordered with it go on.",
            "It cannot be made valid again; make a new key instead.",
        ],
        action=f"/keys/{key['id']}/revoke",
        button="Revoke the key",
        back=("/keys", "Keys"),
    )


def revoke(visit: Visit) -> Response:
    """Revoke a key."""
    row = api_key_actions.revoke(visit.context, visit.actor, visit.path("key_id"))
    return visit.go("/keys", f"The key '{row['name']}' is revoked.")


routes = [
    get("/keys", list_keys),
    post("/keys", make),
    get("/keys/{key_id}/revoke", ask_revoke),
    post("/keys/{key_id}/revoke", revoke),
]
