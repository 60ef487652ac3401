"""Fair shares: who is guaranteed what, uses it or borrows; and the policies of the queue, changed by operators."""

from dataclasses import asdict

from starlette.responses import Response

from penstock.actions import policy as policy_actions
from penstock.actions import share as share_actions
from penstock.actions import tenant as tenant_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.console.edge import Visit, get, post
from penstock.console.projects import seen_projects
from penstock.domain.policy import Queue, Reclaim

TIMES = {
    "patience_s": ("Patience", "waiting, until borrowers that just started are stopped"),
    "bound_s": ("Bound", "waiting, until any borrower is stopped"),
    "fresh_s": ("Just started", "running shorter than this"),
    "starve_s": ("Starving", "waiting, until other borrowers stand back"),
}
QUEUES = {Queue.FAIR_SHARE: "guaranteed shares first", Queue.FIRST_COME: "first come, first served"}
RECLAIMS = {
    Reclaim.BORROWED: "whatever runs above its tenant's share",
    Reclaim.YIELDING: "only work that was ordered to yield",
    Reclaim.NEVER: "nobody",
}


def show(visit: Visit) -> Response:
    """Show the shares and the policy."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    told = share_actions.show(visit.context, visit.actor)
    reads = visit.actor.may("policy:read")
    policy = asdict(policy_actions.show(visit.context, visit.actor)) if reads else None
    projects = seen_projects(visit)
    names = {row["id"]: row["name"] for row in projects}
    if visit.actor.tenant_id is None:
        tenants = tenant_actions.list_page(
            visit.context, visit.actor, name=None, after=None, limit=limits.PAGE_MAX
        )
        names |= {row["id"]: row["name"] for row in tenants}
    else:
        names[visit.actor.tenant_id] = visit.tenant_name
    return visit.page(
        "shares.html",
        error.status if error else 200,
        told=told,
        most=max((_milli(one) for one in told["items"]), default=1_000),
        policy=policy,
        names=names,
        times=TIMES,
        queues=[(one.value, text) for one, text in QUEUES.items()],
        reclaims=[(one.value, text) for one, text in RECLAIMS.items()],
        may_set=visit.actor.may("policy:write"),
        error=error,
        field=visit.field,
    )


def _milli(one: dict[str, int]) -> int:
    """Return how long the bar of a share is."""
    return max(one["guaranteed"] * 1_000, one["used_milli"], 1)


def put(visit: Visit) -> Response:
    """Change the policies."""
    try:
        given: dict[str, object] = {name: visit.whole(name, title) for name, (title, _) in TIMES.items()}
        given |= {"queue": visit.field("queue"), "reclaim": visit.field("reclaim")}
        policy_actions.put(visit.context, visit.actor, given)
    except InvalidInputError as error:
        return _page(visit, error)
    return visit.go(
        "/shares", "The policies hold from the next orders on; nothing that runs is stopped by it."
    )


routes = [get("/shares", show), post("/shares", put, proof_at="/shares")]
