"""What orders of endpoints say of replicas that follow the load, and how many replicas an order begins with."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Spec
from penstock.catalog.replica import ReplicaOrder
from penstock.domain.autoscale import Policy

_GROUP = "Following the load"  # forms fold these away together
LOAD_FIELDS: Mapping[str, Any] = {
    "replicas_min": {
        "type": "integer",
        "minimum": 0,
        "maximum": limits.REPLICAS_PER_SERVICE_MAX,
        "title": "Replicas at least",
        "x-group": _GROUP,
        "description": "with this or replicas_max the number follows the load; 0: none while nobody asks",
    },
    "replicas_max": {
        "type": "integer",
        "minimum": 1,
        "maximum": limits.REPLICAS_PER_SERVICE_MAX,
        "title": "Replicas at most",
        "x-group": _GROUP,
        "description": "with this or replicas_min the number follows the load",
    },
    "queue_target": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "title": "Waiting requests for each replica",
        "x-group": _GROUP,
        "description": "more waiting ones start another replica (4 where not given)",
    },
    "tokens_target": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1_000_000_000,
        "title": "Tokens in flight for each replica",
        "x-group": _GROUP,
        "description": "prompts and what their answers may grow to; more start another (32,768 where not given)",
    },
    "ttft_target_ms": {
        "type": "integer",
        "minimum": 1,
        "maximum": 600_000,
        "title": "Time to first token",
        "x-group": _GROUP,
        "description": "milliseconds; slower ones start another replica (no target where not given)",
    },
    "idle_seconds": {
        "type": "integer",
        "minimum": 1,
        "maximum": 604_800,
        "title": "Idle time to zero",
        "x-group": _GROUP,
        "description": "seconds in which nobody asks until replicas_min 0 takes effect (300 where not given)",
    },
    "scale_up_seconds": {
        "type": "integer",
        "minimum": 0,
        "maximum": 3_600,
        "title": "Pause between steps up",
        "x-group": _GROUP,
        "description": "seconds (15 where not given)",
    },
    "scale_down_seconds": {
        "type": "integer",
        "minimum": 0,
        "maximum": 86_400,
        "title": "Pause before a step down",
        "x-group": _GROUP,
        "description": "seconds in which fewer would have done (120 where not given)",
    },
}


def first_count(spec: Spec) -> int:
    """Return how many replicas an order begins with; InvalidInputError for bounds that exclude each other."""
    policy = Policy.of(spec)
    if policy is None:
        return int(spec["replicas"])
    if policy.broken:
        raise InvalidInputError(policy.broken, field="spec.replicas_max")
    return policy.first(spec)


def times(replica: ReplicaOrder, count: int) -> ReplicaOrder:
    """Return a replica with the holds and the priced devices of ``count`` of them."""
    return replace(
        replica,
        holds={what: amount * count for what, amount in replica.holds.items()},
        gpu_orders=tuple(replace(one, count=one.count * count) for one in replica.gpu_orders)
        if count
        else (),
    )
