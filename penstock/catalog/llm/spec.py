"""The order form of kind ``llm`` and what an order of it asks for."""

from collections.abc import Mapping
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Compiled, Known, ModelFacts, Spec
from penstock.catalog.load import LOAD_FIELDS, first_count, times
from penstock.catalog.replica import ENGINE_FIELDS, replica_of
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
            "description": "engine processes; requests are spread over them. With replicas_max: how many at first",
        },
        **LOAD_FIELDS,
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
    count = first_count(spec)
    replica = times(replica_of(spec, model, known), count)
    return Compiled(
        (replica.ask,) * count,
        dimensions_of({(Measure.SERVICES, None): 1, **replica.holds}),
        gpu_orders=replica.gpu_orders,
        priced_models=(model.name,),
    )
