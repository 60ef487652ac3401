"""Promises of endpoints: what each promises, how fast it uses up what it may miss; set and taken back by who may."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from starlette.responses import Response

from penstock.actions import objective as objective_actions
from penstock.actions import service as service_actions
from penstock.actions.objective import PERCENT_DEFAULT_PPM
from penstock.base.errors import ConflictError, InvalidInputError, PenstockError
from penstock.console.autoscale import endpoint
from penstock.console.edge import Visit, get, post

SHOWN_MAX = 20
TIME_MAX_MS = 600_000
PPM_PER_PERCENT = 10_000
ENDPOINT_STATES = ("running", "degraded", "starting")


def list_promises(visit: Visit) -> Response:
    """Show all endpoints with their promises and how fast those burn, the fastest first."""
    rows = service_actions.list_page(
        visit.context,
        visit.actor,
        project=None,
        states=ENDPOINT_STATES,
        kind="llm",
        name=None,
        after=visit.query("after") or None,
        limit=SHOWN_MAX + 1,
        newest_first=True,
    )
    told = [(row, objective_actions.show(visit.context, visit.actor, row["id"])) for row in rows[:SHOWN_MAX]]
    return visit.page(
        "objectives.html",
        told=sorted(told, key=lambda one: -_worst(one[1])),
        after=visit.query("after") or None,
        more=rows[SHOWN_MAX - 1]["id"] if len(rows) > SHOWN_MAX else None,
    )


def _worst(told: Mapping[str, Any]) -> int:
    """Return the fastest burn of any window, -1 where nothing is promised."""
    windows: list[Mapping[str, int | None]] = told["windows"]
    burns = [one[name] for one in windows for name in ("burn_milli", "availability_burn_milli")]
    return max((burn for burn in burns if burn is not None), default=-1)


def show(visit: Visit) -> Response:
    """Show what one endpoint promises."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    row = endpoint(visit)
    return visit.page(
        "objective.html",
        error.status if error else 200,
        service=row,
        told=objective_actions.show(visit.context, visit.actor, row["id"]),
        may_promise=visit.actor.may("service:promise", row["tenant_id"], row["project_id"]),
        percent_default=f"{PERCENT_DEFAULT_PPM / PPM_PER_PERCENT:g}",
        error=error,
        field=visit.field,
    )


def put(visit: Visit) -> Response:
    """Set what an endpoint promises; empty fields promise nothing."""
    row = endpoint(visit)
    try:
        percent = _ppm(visit, "percent", "Of the requests")
        objective_actions.put(
            visit.context,
            visit.actor,
            row["id"],
            ttft_ms=_milliseconds(visit, "ttft_ms", "First token"),
            token_ms=_milliseconds(visit, "token_ms", "Between tokens"),
            percent_ppm=PERCENT_DEFAULT_PPM if percent is None else percent,
            availability_ppm=_ppm(visit, "availability", "Succeed"),
        )
    except (ConflictError, InvalidInputError) as error:
        return _page(visit, error)
    return visit.go(f"/services/{row['id']}/objective", "That is promised from now on.")


def _milliseconds(visit: Visit, name: str, title: str) -> int | None:
    if not visit.field(name):
        return None
    amount = visit.whole(name, title)
    if not 1 <= amount <= TIME_MAX_MS:
        raise InvalidInputError(f"{title}: 1 to {TIME_MAX_MS} ms", field=name)
    return amount


def _ppm(visit: Visit, name: str, title: str) -> int | None:
    text = visit.field(name).replace(",", ".")
    if not text:
        return None
    try:
        amount = Decimal(text) * PPM_PER_PERCENT
        fits = 1 <= amount <= 100 * PPM_PER_PERCENT
    except InvalidOperation:
        fits, amount = False, Decimal(0)
    if not fits:
        raise InvalidInputError(f"{title}: a percentage above 0 and up to 100", field=name)
    return round(amount)


def remove(visit: Visit) -> Response:
    """Promise nothing any more."""
    row = endpoint(visit)
    objective_actions.delete(visit.context, visit.actor, row["id"])
    return visit.go(f"/services/{row['id']}/objective", "Nothing is promised any more; its counts stay.")


routes = [
    get("/objectives", list_promises),
    get("/services/{service_id}/objective", show),
    post("/services/{service_id}/objective", put),
    post("/services/{service_id}/objective/remove", remove),
]
