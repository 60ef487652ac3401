"""Quotas: what is used of each, and for administrators the division among projects."""

from starlette.responses import Response

from penstock.actions import quota as quota_actions
from penstock.actions import rate_limit as rate_limit_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.base.units import BYTES_PER_GIB, MICROEUR_PER_EUR
from penstock.console.edge import Visit, get, post
from penstock.console.menu import may_see
from penstock.console.projects import seen_projects
from penstock.domain.quota import PER_CLASS, Measure
from penstock.store.rows import Row

# What a person types, and how many of the quota's unit it is.
UNITS = {
    Measure.DEVICES: ("devices", 1),
    Measure.SLICES: ("slices", 1),
    Measure.DEVICE_MEMORY_BYTES: ("GiB", BYTES_PER_GIB),
    Measure.SERVICES: ("services", 1),
    Measure.VOLUMES: ("volumes", 1),
    Measure.VOLUME_GIB: ("GiB", 1),
    Measure.SNAPSHOTS: ("snapshots", 1),
    Measure.SNAPSHOT_GIB: ("GiB", 1),
    Measure.DOCUMENTS: ("documents", 1),
    Measure.CHUNKS: ("chunks", 1),
    Measure.QUERIES_PER_DAY: ("questions", 1),
    Measure.GPU_SECONDS_PER_MONTH: ("GPU-hours", 3_600),
    Measure.TOKENS_PER_MONTH: ("tokens", 1),
    Measure.MICROEUR_PER_MONTH: ("EUR", MICROEUR_PER_EUR),
}
AMOUNT_MAX = (1 << 63) - 1


def list_quotas(visit: Visit) -> Response:
    """Show a tenant's quotas."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    projects = seen_projects(visit)
    names = {project["id"]: project["name"] for project in projects}
    rows = of_tenant(visit, None)
    return visit.page(
        "quotas.html",
        error.status if error else 200,
        own=[row for row in rows if row["project_id"] is None],
        of_projects=[
            (names[one], [row for row in rows if row["project_id"] == one])
            for one in names
            if any(row["project_id"] == one for row in rows)
        ],
        projects=projects,
        rates=_rates(visit),
        names=names,
        choices=choices(visit),
        error=error,
        may_divide=may_see(visit.actor, "quota:write"),
    )


def _rates(visit: Visit) -> list[Row]:
    """Return how fast the tenant, its projects, keys and endpoints may take; [] for who may not know."""
    if visit.actor.tenant_id is None or not may_see(visit.actor, "rate_limit:read"):
        return []
    return rate_limit_actions.list_page(
        visit.context, visit.actor, tenant_id=None, subject_id=None, after=None, limit=limits.PAGE_DEFAULT
    )


def of_tenant(visit: Visit, tenant_id: str | None) -> list[Row]:
    """Return the quotas of a tenant with what is used."""
    return quota_actions.list_page(
        visit.context, visit.actor, tenant_id=tenant_id, after=None, limit=limits.PAGE_MAX
    )


def choices(visit: Visit) -> list[tuple[str, str]]:
    """Return the dimensions that can be limited, with their unit."""
    classes = sorted(visit.context.device_classes)
    found: list[tuple[str, str]] = []
    for measure, (unit, _) in UNITS.items():
        found.append((measure.value, f"{measure.value.replace('_', ' ')}, in {unit}"))
        if measure in PER_CLASS:
            found += [
                (f"{measure}:{name}", f"{measure.value.replace('_', ' ')} of {name}, in {unit}")
                for name in classes
            ]
    return found


def amount_of(visit: Visit) -> tuple[str, int]:
    """Return the dimension and the limit that a form asks for, in the unit of the dimension."""
    dimension = visit.field("dimension")
    measure = dimension.partition(":")[0]
    if measure not in set(Measure):
        raise InvalidInputError("choose what to limit", field="dimension")
    factor = UNITS[Measure(measure)][1]
    amount = visit.whole("limit", "The limit") * factor
    if not 0 <= amount <= AMOUNT_MAX:
        raise InvalidInputError("a limit is 0 or more, and no more than can be counted", field="limit")
    return dimension, amount


def put(visit: Visit) -> Response:
    """Set the limit of a project."""
    try:
        dimension, amount = amount_of(visit)
        quota_actions.put(
            visit.context,
            visit.actor,
            tenant_id=None,
            project_id=visit.field("project") or None,
            dimension=dimension,
            limit=amount,
            keep_guaranteed=True,
        )
    except PenstockError as error:
        return _page(visit, error)
    return visit.go("/quotas", "The limit is set. Nothing is taken away by it; only more is refused.")


def remove(visit: Visit) -> Response:
    """Take a limit away."""
    row = quota_actions.show(visit.context, visit.actor, visit.path("quota_id"))
    quota_actions.delete(visit.context, visit.actor, row["id"])
    back = f"/tenants/{row['tenant_id']}" if visit.actor.tenant_id is None else "/quotas"
    return visit.go(back, "The limit is gone.")


routes = [
    get("/quotas", list_quotas),
    post("/quotas", put),
    post("/quotas/{quota_id}/remove", remove),
]
