"""What an endpoint promises: set, take back, and show with how fast it uses up what it may miss."""

from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context
from penstock.actions.service import visible
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.objective import WINDOWS, burn_milli
from penstock.store import objective as objective_store
from penstock.store.rows import Row

PERCENT_DEFAULT_PPM = 990_000


def put(
    context: Context,
    actor: Actor,
    service_id: str,
    *,
    ttft_ms: int | None,
    token_ms: int | None,
    percent_ppm: int,
    availability_ppm: int | None,
) -> dict[str, Any]:
    """Set what an endpoint promises; InvalidInputError for nothing, ConflictError for what is no endpoint."""
    if ttft_ms is None and token_ms is None and availability_ppm is None:
        raise InvalidInputError(
            "promise something: ttft_ms, token_ms or availability_percent", field="ttft_ms"
        )
    with change(context, actor, "service.promise", service_id) as made:
        row = visible(made.connection, actor, service_id)
        actor.require("service:promise", row["tenant_id"], row["project_id"])
        if row["kind"] not in ("llm", "rag"):
            raise ConflictError("only endpoints (services of kind llm or rag) promise something")
        promise = {
            "ttft_ms": ttft_ms,
            "token_ms": token_ms,
            "percent_ppm": percent_ppm,
            "availability_ppm": availability_ppm,
        }
        objective_store.put(
            made.connection,
            {
                "service_id": service_id,
                "tenant_id": row["tenant_id"],
                **promise,
                "created_at": context.clock.now(),
            },
        )
        made.done(
            "service.promise_set",
            service_id,
            tenant_id=row["tenant_id"],
            project_id=row["project_id"],
            detail=promise,
        )
        shown = _shown(context, made.connection, service_id)
    context.wakeups.signal("gateway")
    return shown


def show(context: Context, actor: Actor, service_id: str) -> dict[str, Any]:
    """Return what an endpoint promises (None: nothing) and what became of its requests, by time."""
    with context.db.transaction(actor.scope) as connection:
        visible(connection, actor, service_id)
        return _shown(context, connection, service_id)


def delete(context: Context, actor: Actor, service_id: str) -> None:
    """Promise nothing any more; repeatable."""
    with change(context, actor, "service.promise", service_id) as made:
        row = visible(made.connection, actor, service_id)
        actor.require("service:promise", row["tenant_id"], row["project_id"])
        if objective_store.remove(made.connection, service_id):
            made.done(
                "service.promise_removed",
                service_id,
                tenant_id=row["tenant_id"],
                project_id=row["project_id"],
                detail={},
            )
    context.wakeups.signal("gateway")


def _shown(context: Context, connection: Connection, service_id: str) -> dict[str, Any]:
    promise = objective_store.get(connection, service_id)
    now = context.clock.now()
    windows = [_window(connection, service_id, name, promise, now - span) for name, span in WINDOWS]
    return {
        "service_id": service_id,
        "objective": None
        if promise is None
        else {
            "ttft_ms": promise["ttft_ms"],
            "token_ms": promise["token_ms"],
            "percent": promise["percent_ppm"] / 10_000,
            "availability_percent": None
            if promise["availability_ppm"] is None
            else promise["availability_ppm"] / 10_000,
        },
        "windows": windows,
    }


def _window(
    connection: Connection, service_id: str, name: str, promise: Row | None, since: Any
) -> dict[str, Any]:
    counted = objective_store.since(connection, service_id, since)
    timed = promise is not None and (promise["ttft_ms"] is not None or promise["token_ms"] is not None)
    available = None if promise is None else promise["availability_ppm"]
    return {
        "window": name,
        "requests": counted.requests,
        "missed": counted.missed,
        "late": counted.late,
        "slow": counted.slow,
        "failed": counted.failed,
        "burn_milli": burn_milli(counted.requests, counted.missed, promise["percent_ppm"])
        if timed and promise
        else None,
        "availability_burn_milli": None
        if available is None
        else burn_milli(counted.requests, counted.failed, available),
    }
