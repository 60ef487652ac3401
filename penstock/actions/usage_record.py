"""One usage record of the gateway, checked field by field: what cannot be billed as it stands is refused."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import structlog

from penstock.base.clock import from_epoch_us, to_epoch_us

log = structlog.get_logger(__name__)

ENDINGS = frozenset({"stop", "length", "cancelled", "disconnect", "engine_lost", "error"})
TEXTS = ("id", "key", "tenant", "principal", "service", "allocation", "model")
TEXT_CHARACTERS_MAX = 256
TOKENS_MAX = 1 << 40
# A gateway's clock may be ahead of ours by this much before its word is no longer taken.
FUTURE_US_MAX = 60_000_000


def readable(record: object, now: datetime) -> dict[str, Any] | None:
    """Return the record as the store takes it, or None, logged, if it is not as documented."""
    if not isinstance(record, dict):
        log.warning("usage_rejected", reason="a record must be an object")
        return None
    fields = cast("Mapping[str, object]", record)
    try:
        return _read(fields, to_epoch_us(now) + FUTURE_US_MAX)
    except ValueError as error:
        log.warning("usage_rejected", reason=str(error), record=str(fields.get("id"))[:TEXT_CHARACTERS_MAX])
        return None


def _read(fields: Mapping[str, object], latest_us: int) -> dict[str, Any]:
    row: dict[str, Any] = {name: _text(fields, name) for name in TEXTS}
    row["prompt_tokens"] = _whole(fields, "prompt_tokens", TOKENS_MAX)
    row["completion_tokens"] = _whole(fields, "completion_tokens", TOKENS_MAX)
    row["ending"] = _text(fields, "ending")
    if row["ending"] not in ENDINGS:
        raise ValueError(f"ending must be one of {', '.join(sorted(ENDINGS))}")
    for name in ("streamed", "estimated"):
        row[name] = fields.get(name)
        if not isinstance(row[name], bool):
            raise ValueError(f"{name} must be true or false")  # noqa: TRY004 - wrong values are caught as one kind
    started = _whole(fields, "started_at_us", latest_us)
    ended = _whole(fields, "ended_at_us", latest_us)
    first = None
    if fields.get("first_token_at_us") is not None:
        first = _whole(fields, "first_token_at_us", latest_us)
    if not started <= (started if first is None else first) <= ended:
        raise ValueError("started_at_us, first_token_at_us and ended_at_us must follow each other")
    row["started_at"], row["ended_at"] = from_epoch_us(started), from_epoch_us(ended)
    row["first_token_at"] = None if first is None else from_epoch_us(first)
    return row


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    # Printable: without NUL, which the database cannot hold, and without halves of surrogate pairs.
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARACTERS_MAX or not value.isprintable():
        raise ValueError(f"{name} must be a printable text of 1 to {TEXT_CHARACTERS_MAX} characters")
    return value


def _whole(fields: Mapping[str, object], name: str, highest: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise ValueError(f"{name} must be a whole number from 0 to {highest}")
    return value
