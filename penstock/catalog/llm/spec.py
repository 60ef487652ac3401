"""The order form of kind ``llm`` and what an order of it asks for."""

from collections.abc import Mapping
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Compiled, Known, ModelFacts, Spec
from penstock.domain.claim import Ask
from penstock.domain.quota import Measure, dimensions_of

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
            "description": "engine processes; requests are spread over them",
        },
    },
}

# One engine process: its own code and buffers, and the weights with room for activations and the KV cache.
ENGINE_MEMORY_BYTES = 128 << 20
WEIGHTS_MEMORY_FACTOR = 2
REPLICA_CPU_MILLIS = 250
ENGINE = "ctranslate2"


def model_of(spec: Spec, known: Known) -> ModelFacts:
    """Return the ordered model; InvalidInputError if it is not there or no engine of ours can serve it."""
    model = known.models.get(spec["model"])
    if model is None:
        raise InvalidInputError(
            f"no model '{spec['model']}'; there are: {', '.join(sorted(known.models)) or 'none yet'}",
            field="spec.model",
        )
    if ENGINE not in model.engines:
        raise InvalidInputError(f"no engine of this factory serves '{model.name}'", field="spec.model")
    return model


def compile_order(spec: Spec, known: Known) -> Compiled:
    """Return what an order asks for and holds."""
    model = model_of(spec, known)
    ask = Ask(
        count=0,
        node_memory_bytes=ENGINE_MEMORY_BYTES + WEIGHTS_MEMORY_FACTOR * model.size_bytes,
        node_cpu_millis=REPLICA_CPU_MILLIS,
        driver=ENGINE,
    )
    return Compiled(
        (ask,) * spec["replicas"], dimensions_of({(Measure.SERVICES, None): 1}), priced_models=(model.name,)
    )
