"""Scaling of an endpoint: how many replicas there are and why, what waits, and the policy that decides."""

from typing import Any

from starlette.responses import Response

from penstock.actions import autoscale as autoscale_actions
from penstock.actions import service as service_actions
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError, PenstockError
from penstock.catalog.kinds import kind_named
from penstock.console.edge import Visit, get, post
from penstock.domain.autoscale import ELASTIC, FIELDS, WHY_SENTENCES, Why
from penstock.domain.service import TERMINAL, ServiceState
from penstock.store.rows import Row


def endpoint(visit: Visit) -> Row:
    """Return the endpoint that the address names; NotFoundError for other services, which have no replicas."""
    row = service_actions.show(visit.context, visit.actor, visit.path("service_id"))
    if row["kind"] not in ELASTIC:
        raise NotFoundError("only endpoints have replicas, promises and limits of token traffic")
    return row


def show(visit: Visit) -> Response:
    """Show the replicas, the load and the policy."""
    return _page(visit)


def _page(visit: Visit, error: PenstockError | None = None) -> Response:
    row = endpoint(visit)
    told = autoscale_actions.show(visit.context, visit.actor, row["id"])
    form: dict[str, Any] = kind_named("llm").form["properties"]
    step = told["last_step"]
    return visit.page(
        "scaling.html",
        error.status if error else 200,
        service=row,
        told=told,
        held=told["waiting"] if not told["replicas_ready"] else 0,
        why=None if step is None else WHY_SENTENCES[Why(step["reason"])],
        fields=[_field(name, form[name], row["spec"], visit) for name in FIELDS],
        may_change=row["wanted"] == "running"
        and ServiceState(row["state"]) not in TERMINAL
        and visit.actor.may("service:scale", row["tenant_id"], row["project_id"]),
        error=error,
    )


def _field(name: str, schema: dict[str, Any], spec: dict[str, Any], visit: Visit) -> dict[str, Any]:
    value = spec.get(name)
    return {
        "name": name,
        "title": schema["title"],
        "hint": _hint(schema),
        "minimum": schema.get("minimum"),
        "maximum": schema.get("maximum"),
        "value": visit.field(name) or ("" if value is None else value),
    }


def _hint(schema: dict[str, Any]) -> str:
    """Return the description of a field with the titles of the fields that it names."""
    text = str(schema.get("description", "")).split(";")[0]
    form: dict[str, Any] = kind_named("llm").form["properties"]
    for name in FIELDS:
        text = text.replace(name, f"'{form[name]['title']}'")
    return text


def put(visit: Visit) -> Response:
    """Change the policy; empty fields stay as they are."""
    row = endpoint(visit)
    try:
        given = {name: visit.whole(name, name.replace("_", " ")) for name in FIELDS if visit.field(name)}
        autoscale_actions.put(visit.context, visit.actor, row["id"], given)
    except (ConflictError, InvalidInputError) as error:
        return _page(visit, error)
    return visit.go(f"/services/{row['id']}/scaling", "The policy is in force from now on.")


routes = [get("/services/{service_id}/scaling", show), post("/services/{service_id}/scaling", put)]
