"""The operator's policies: who is served first, who gives way, when idle nodes may sleep. All of it data."""

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


class Sleeping(StrEnum):
    """Who turns idle nodes off."""

    NEVER = "never"
    PROPOSE = "propose"  # they are listed, an operator accepts
    AUTOMATIC = "automatic"


class Fabric(StrEnum):
    """Which orders that name a partition of the fabric that is not there have it made."""

    MULTI_NODE = "multi-node"  # those on more than one node
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Policy:
    """The switches and bounds; times in seconds.

    ``patience_s``: from then on an order within its guaranteed share stops borrowers that have only just started
    (less than ``fresh_s`` ago). ``bound_s``: from then on it stops whatever borrowers it takes. ``starve_s``: from
    then on an order above its share makes the others above theirs stand back.

    ``power_weight_percent``: how much the power that a place adds counts against what is lost there; 0: not at all.
    A node may sleep once it is idle for ``sleep_idle_s`` and up for ``sleep_up_s``, while ``sleep_ready`` idle ones of
    its kind stay on; waking one is taken to last ``wake_s``.
    """

    queue: Queue = Queue.FAIR_SHARE
    reclaim: Reclaim = Reclaim.BORROWED
    patience_s: int = 120
    bound_s: int = 600
    fresh_s: int = 300
    starve_s: int = 86_400
    power_weight_percent: int = 0
    sleep: Sleeping = Sleeping.PROPOSE
    sleep_idle_s: int = 600
    sleep_up_s: int = 1_800
    sleep_ready: int = 1
    wake_s: int = 90
    fabric: Fabric = Fabric.MULTI_NODE


TIME_MAX_S = 30 * 86_400
READY_MAX = 100_000
_MOST = {"power_weight_percent": (100, "percent"), "sleep_ready": (READY_MAX, "nodes")}


def policy_from(values: Mapping[str, object]) -> Policy:
    """Return the policy with ``values`` in place of the defaults; InvalidInputError names a field that cannot be."""
    kinds = {"queue": Queue, "reclaim": Reclaim, "sleep": Sleeping, "fabric": Fabric}
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
        else:
            most, unit = _MOST.get(name, (TIME_MAX_S, "seconds"))
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise InvalidInputError(f"'{name}' is from 0 to {most} {unit}", field=name)
            made[name] = value
    policy = Policy(**made)  # pyright: ignore[reportArgumentType] - checked above, field by field
    if policy.patience_s > policy.bound_s:
        raise InvalidInputError("patience_s must not be above bound_s", field="patience_s")
    return policy
