"""The order form of kind ``llm`` and what an order of it asks for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Compiled, Known, ModelFacts, Spec
from penstock.catalog.replica import ENGINE_FIELDS, replica_of
from penstock.domain.autoscale import Policy
from penstock.domain.quota import Measure, dimensions_of

LOAD_GROUP = "Following the load"  # forms fold these away together

FORM: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["model"],
    "properties": {
        "model": {
            "type": "string",
            "minLength": 1,
            "maxLength": 63,
            "title": "Model",
            "description": "a model of the catalogue; see `penstock model list`",
        },
        "replicas": {
            "type": "integer",
            "minimum": 1,
            "maximum": limits.REPLICAS_PER_SERVICE_MAX,
            "default": 1,
            "title": "Replicas",
            "description": "engine processes; requests are spread over them. With replicas_max: how many at first",
        },
        "replicas_min": {
            "type": "integer",
            "minimum": 0,
            "maximum": limits.REPLICAS_PER_SERVICE_MAX,
            "title": "Replicas at least",
            "x-group": LOAD_GROUP,
            "description": "with this or replicas_max the number follows the load; 0: none while nobody asks",
        },
        "replicas_max": {
            "type": "integer",
            "minimum": 1,
            "maximum": limits.REPLICAS_PER_SERVICE_MAX,
            "title": "Replicas at most",
            "x-group": LOAD_GROUP,
            "description": "with this or replicas_min the number follows the load",
        },
        "queue_target": {
            "type": "integer",
            "minimum": 1,
            "maximum": 10_000,
            "title": "Waiting requests for each replica",
            "x-group": LOAD_GROUP,
            "description": "more waiting ones start another replica (4 where not given)",
        },
        "tokens_target": {
            "type": "integer",
            "minimum": 1,
            "maximum": 1_000_000_000,
            "title": "Tokens in flight for each replica",
            "x-group": LOAD_GROUP,
            "description": "prompts and what their answers may grow to; more start another (32,768 where not given)",
        },
        "ttft_target_ms": {
            "type": "integer",
            "minimum": 1,
            "maximum": 600_000,
            "title": "Time to first token",
            "x-group": LOAD_GROUP,
            "description": "milliseconds; slower ones start another replica (no target where not given)",
        },
        "idle_seconds": {
            "type": "integer",
            "minimum": 1,
            "maximum": 604_800,
            "title": "Idle time to zero",
            "x-group": LOAD_GROUP,
            "description": "seconds in which nobody asks until replicas_min 0 takes effect (300 where not given)",
        },
        "scale_up_seconds": {
            "type": "integer",
            "minimum": 0,
            "maximum": 3_600,
            "title": "Pause between steps up",
            "x-group": LOAD_GROUP,
            "description": "seconds (15 where not given)",
        },
        "scale_down_seconds": {
            "type": "integer",
            "minimum": 0,
            "maximum": 86_400,
            "title": "Pause before a step down",
            "x-group": LOAD_GROUP,
            "description": "seconds in which fewer would have done (120 where not given)",
        },
        **ENGINE_FIELDS,
    },
}


def model_of(spec: Spec, known: Known) -> ModelFacts:
    """Return the ordered model; InvalidInputError if it is not there or is no model by itself."""
    model = known.models.get(spec["model"])
    if model is None:
        raise InvalidInputError(
            f"no model '{spec['model']}'; there are: {', '.join(sorted(known.models)) or 'none yet'}",
            field="spec.model",
        )
    if model.base_model is not None:
        raise InvalidInputError(
            f"'{model.name}' is an adapter of '{model.base_model}': order that model with this one among its 'adapters'",
            field="spec.model",
        )
    return model


def compile_order(spec: Spec, known: Known) -> Compiled:
    """Return what an order asks for and holds."""
    model = model_of(spec, known)
    policy = Policy.of(spec)
    if policy is not None and policy.broken:
        raise InvalidInputError(policy.broken, field="spec.replicas_max")
    replica = replica_of(spec, model, known)
    count: int = spec["replicas"] if policy is None else policy.first(spec)
    holds = {what: amount * count for what, amount in replica.holds.items()}
    gpu_orders = [replace(order, count=order.count * count) for order in replica.gpu_orders] if count else []
    return Compiled(
        (replica.ask,) * count,
        dimensions_of({(Measure.SERVICES, None): 1, **holds}),
        gpu_orders=tuple(gpu_orders),
        priced_models=(model.name,),
    )
