"""The order form of kind ``rag`` and what an order of it asks for."""

from collections.abc import Mapping
from typing import Any

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Compiled, Known, ModelFacts, Spec
from penstock.catalog.load import LOAD_FIELDS, first_count, times
from penstock.catalog.replica import CTRANSLATE2, ENGINE_FIELDS, replica_of
from penstock.domain.autoscale import Policy
from penstock.domain.knowledge_base import (
    CHUNK_CHARACTERS_DEFAULT,
    CHUNK_CHARACTERS_MAX,
    CHUNK_CHARACTERS_MIN,
    LANGUAGES,
    OVERLAP_CHARACTERS_DEFAULT,
)
from penstock.domain.price import OF_KNOWLEDGE
from penstock.domain.quota import Measure, dimensions_of

EMBEDDING_MODEL_DEFAULT = "all-minilm-l6-v2"
# Its own vectors are made by one engine that is always there: what follows the load is counted without it.
ALONE = (
    "replicas follow the load only where the vectors come from a shared embedding service: order one "
    "(`penstock service order embedding`) and name it in embedding_service"
)
_GROUP = "How documents are read"  # forms fold these away together
_NAME = {"type": "string", "minLength": 1, "maxLength": 63}
FORM: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["model"],
    "properties": {
        "model": {
            **_NAME,
            "title": "Model",
            "description": "that answers: a text model of the catalogue; see `penstock model list`",
        },
        "replicas": {
            "type": "integer",
            "minimum": 1,
            "maximum": limits.REPLICAS_PER_SERVICE_MAX,
            "default": 1,
            "title": "Replicas",
            "description": "engine processes of the model that answers; questions are spread over them. With replicas_max: how many at first",
        },
        **LOAD_FIELDS,
        "embedding_service": {
            **_NAME,
            "title": "Shared embedding service",
            "description": "name or id of an embedding endpoint of the project that is to make the vectors; without it the order brings its own",
        },
        "embedding_model": {
            **_NAME,
            "default": EMBEDDING_MODEL_DEFAULT,
            "title": "Embedding model",
            "description": "of the order's own embedding endpoint; a shared one has its own",
        },
        "language": {
            "type": "string",
            "enum": list(LANGUAGES),
            "default": "english",
            "title": "Language",
            "x-group": _GROUP,
            "description": "whose words full-text search reduces to stems; simple leaves words as they are",
        },
        "chunk_characters": {
            "type": "integer",
            "minimum": CHUNK_CHARACTERS_MIN,
            "maximum": CHUNK_CHARACTERS_MAX,
            "default": CHUNK_CHARACTERS_DEFAULT,
            "title": "Characters of a chunk",
            "x-group": _GROUP,
            "description": "at most; documents are cut where headings, paragraphs or sentences end",
        },
        "overlap_characters": {
            "type": "integer",
            "minimum": 0,
            "maximum": CHUNK_CHARACTERS_MAX // 2,
            "default": OVERLAP_CHARACTERS_DEFAULT,
            "title": "Characters shared",
            "x-group": _GROUP,
            "description": "with the chunk before; at most half of a chunk",
        },
        **{name: field for name, field in ENGINE_FIELDS.items() if name != "adapters"},
    },
}


def embedding_name(name: str) -> str:
    """Return what the engine of a service's own vectors answers to."""
    return f"{name}-embedding"


def model_of(spec: Spec, field: str, kind: str, known: Known) -> ModelFacts:
    """Return the model that a field names; InvalidInputError if it is not there or not of that kind."""
    model = known.models.get(spec[field])
    fitting = sorted(one.name for one in known.models.values() if one.kind == kind and one.base_model is None)
    if model is None or model.name not in fitting:
        what = "writes text" if kind == "generation" else "makes vectors"
        raise InvalidInputError(
            f"no model '{spec[field]}' that {what}; there are: {', '.join(fitting) or 'none yet'}",
            field=f"spec.{field}",
        )
    return model


def compile_order(spec: Spec, known: Known) -> Compiled:
    """Return what an order asks for and holds; the ask of its own embedding endpoint comes first."""
    model = model_of(spec, "model", "generation", known)
    if spec["overlap_characters"] > spec["chunk_characters"] // 2:
        raise InvalidInputError("the overlap may be at most half of a chunk", field="spec.overlap_characters")
    count = first_count(spec)
    if Policy.of(spec) is not None and spec.get("embedding_service") is None:
        raise InvalidInputError(ALONE, field="spec.embedding_service")
    replica = times(replica_of(spec, model, known), count)
    asks = (replica.ask,) * count
    priced: tuple[str, ...] = (model.name,)
    if spec.get("embedding_service") is None:
        own = model_of(spec, "embedding_model", "embedding", known)
        asks = (replica_of({"engine": CTRANSLATE2}, own, known).ask, *asks)
        priced = (*priced, own.name)
    return Compiled(
        asks,
        dimensions_of({(Measure.SERVICES, None): 1, **replica.holds}),
        gpu_orders=replica.gpu_orders,
        priced_models=priced,
        priced_counts=tuple((meter, spec["embedding_model"]) for meter in OF_KNOWLEDGE),
    )
