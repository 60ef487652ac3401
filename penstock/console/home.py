"""The first page: what runs, what it costs, what is left of the quotas, what needs a look."""

from collections.abc import Sequence

from starlette.responses import Response

from penstock.actions import quota as quota_actions
from penstock.actions import service as service_actions
from penstock.actions import spend as spend_actions
from penstock.console.edge import Visit, get
from penstock.console.menu import may_see, menu_for
from penstock.domain.service import STATE_SENTENCES, ServiceState
from penstock.store.rows import Row

LIVE_STATES = tuple(
    state.value for state in ServiceState if state not in (ServiceState.RELEASED, ServiceState.FAILED)
)
SHOWN_MAX = 100
TROUBLE = ("degraded", "queued", "releasing")


def show(visit: Visit) -> Response:
    """Show a tenant its home; people of the factory begin at the first page of their menu."""
    if visit.actor.tenant_id is None:
        groups = menu_for(visit.actor)
        return visit.go(groups[0].items[0].path if groups else "/account")
    live = live_services(visit)
    spend = spend_actions.show(visit.context, visit.actor) if may_see(visit.actor, "usage:read") else None
    return visit.page(
        "home.html",
        services=live,
        notices=notices(live),
        spend=spend,
        quotas=quotas(visit),
        sentences=STATE_SENTENCES,
        at=visit.context.clock.now(),
    )


def live_services(visit: Visit) -> list[Row]:
    """Return the services that are not over, newest first, at most ``SHOWN_MAX``."""
    return service_actions.list_page(
        visit.context,
        visit.actor,
        project=None,
        states=LIVE_STATES,
        kind=None,
        name=None,
        after=None,
        limit=SHOWN_MAX,
        newest_first=True,
    )


def notices(services: Sequence[Row]) -> list[Row]:
    """Return the services that somebody should look at: those that wait, fall short or cannot be taken down."""
    return [row for row in services if row["state"] in TROUBLE and row["reason"] != "none"]


def quotas(visit: Visit) -> list[Row]:
    """Return what limits the caller, those with least left first; nothing for who may not read quotas."""
    if not may_see(visit.actor, "quota:read"):
        return []
    rows = quota_actions.list_page(visit.context, visit.actor, tenant_id=None, after=None, limit=SHOWN_MAX)
    return sorted(rows, key=lambda row: (row["limit_amount"] - row["used"]) / max(1, row["limit_amount"]))


routes = [get("/", show)]
