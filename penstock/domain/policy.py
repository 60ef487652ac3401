"""The operator's policies: who is served first, who gives way, and when idle nodes may sleep. All of it data."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from penstock.base.errors import InvalidInputError


class Queue(StrEnum):
    """In which order waiting orders are tried."""

    FAIR_SHARE = "fair-share"  # guaranteed shares first, then what is expected to be done soonest
    FIRST_COME = "first-come"


class Reclaim(StrEnum):
    """Who is stopped so that a tenant gets its guaranteed share back."""

    BORROWED = "borrowed"  # whatever runs above its own tenant's share
    YIELDING = "yielding"  # only work that was ordered as preemptible
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Policy:
    """The switches and bounds; times in seconds.

    ``patience_s``: from then on an order within its guaranteed share stops borrowers that have only just started
    (less than ``fresh_s`` ago). ``bound_s``: from then on it stops whatever borrowers it takes. ``starve_s``: from
    then on an order above its share makes the others above theirs stand back.
    """

    queue: Queue = Queue.FAIR_SHARE
    reclaim: Reclaim = Reclaim.BORROWED
    patience_s: int = 120
    bound_s: int = 600
    fresh_s: int = 300
    starve_s: int = 86_400


TIME_MAX_S = 30 * 86_400


def policy_from(values: Mapping[str, object]) -> Policy:
    """Return the policy with ``values`` in place of the defaults; InvalidInputError names a field that cannot be."""
    kinds = {"queue": Queue, "reclaim": Reclaim}
    known = {one.name for one in fields(Policy)}
    made: dict[str, object] = {}
    for name, value in values.items():
        if name not in known:
            raise InvalidInputError(f"there is no policy '{name}'", field=name)
        if name in kinds:
            choices = [str(one) for one in kinds[name]]
            if value not in choices:
                raise InvalidInputError(f"'{name}' is one of {', '.join(choices)}", field=name)
            made[name] = kinds[name](str(value))
        elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= TIME_MAX_S:
            raise InvalidInputError(f"'{name}' is from 0 to {TIME_MAX_S} seconds", field=name)
        else:
            made[name] = value
    policy = Policy(**made)  # pyright: ignore[reportArgumentType] - checked above, field by field
    if policy.patience_s > policy.bound_s:
        raise InvalidInputError("patience_s must not be above bound_s", field="patience_s")
    return policy
