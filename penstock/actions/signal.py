"""What gateways say of endpoints whose replicas follow the load: taken as it is, checked field by field."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy.engine import Connection

from penstock.actions.context import Context
from penstock.base.errors import TooLargeError
from penstock.base.limits import SIGNAL_UPSTREAMS_MAX, SIGNALS_BATCH_MAX
from penstock.store import autoscale as autoscale_store
from penstock.store import objective as objective_store
from penstock.store.database import SYSTEM

_COUNT_MAX = (1 << 31) - 1
_ID_CHARACTERS_MAX = 64
_NAMES = ("service", "tenant")
_COUNTED = ("counted", "missed", "late", "slow", "failed")  # for what the endpoint promises
_COUNTS = ("waiting", "in_flight", "tokens", "requests", *_COUNTED)


def take(context: Context, gateway: str, signals: Sequence[object]) -> Mapping[str, int]:
    """Write what a gateway says; return how many endpoints were ``known``. One that is not as documented is skipped.

    Raises TooLargeError above ``SIGNALS_BATCH_MAX``.
    """
    if len(signals) > SIGNALS_BATCH_MAX:
        raise TooLargeError(f"at most {SIGNALS_BATCH_MAX} endpoints in one report", field="services")
    good: dict[str, dict[str, Any]] = {}
    for signal in signals:
        row = _readable(signal)
        if row is not None:
            good[row["service"]] = row
    now = context.clock.now()

    def work(connection: Connection) -> tuple[int, bool]:
        objective_store.count(
            connection, [{**row, "requests": row["counted"]} for row in good.values() if row["counted"]], now
        )
        return autoscale_store.take_signals(connection, gateway, list(good.values()), now)

    known, drains = context.db.retrying(SYSTEM, work)
    if known:
        context.wakeups.signal("autoscale")
    if drains:
        context.wakeups.signal("service")
    return {"known": known}


def _readable(signal: object) -> dict[str, Any] | None:
    """Return a signal that can be written, or None."""
    if not isinstance(signal, dict):
        return None
    given = cast("dict[str, object]", signal)
    names, counts = [given.get(name) for name in _NAMES], [given.get(name, 0) for name in _COUNTS]
    ttft, upstreams = given.get("ttft_us"), given.get("upstreams", [])
    if not isinstance(upstreams, list) or len(cast("list[object]", upstreams)) > SIGNAL_UPSTREAMS_MAX:
        return None
    if not all(map(_is_id, [*names, *cast("list[object]", upstreams)])) or not all(map(_is_count, counts)):
        return None
    if ttft is not None and not _is_count(ttft):
        return None
    row = dict(zip((*_NAMES, *_COUNTS), (*names, *counts), strict=True))
    return {**row, "ttft_us": ttft, "upstreams": upstreams}


def _is_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= _ID_CHARACTERS_MAX
        and value.isascii()
        and value.isprintable()
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _COUNT_MAX
