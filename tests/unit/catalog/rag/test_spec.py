"""A RAG order asks for its own embedding engine, if it has none to share, and for each replica that answers."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Known, ModelFacts, merge_order
from penstock.catalog.rag.spec import FORM, compile_order
from penstock.domain.device import load_device_classes

WRITER = ModelFacts("writer", "/m/writer", 100 << 20, ("ctranslate2",))
LARGE = ModelFacts("large", "/m/large", 100 << 30, ("vllm",))
MINI = ModelFacts("all-minilm-l6-v2", "/m/mini", 20 << 20, ("ctranslate2",), "embedding")
KNOWN = Known(load_device_classes(), {model.name: model for model in (WRITER, LARGE, MINI)})


def spec(**asked: Any) -> dict[str, Any]:
    return merge_order(FORM, {}, {"model": "writer", **asked})


def test_its_own_embedding_engine_comes_first_and_is_sized_by_its_model() -> None:
    order = compile_order(spec(replicas=2), KNOWN)
    sizes = [ask.node_memory_bytes for ask in order.asks]
    assert len(sizes) == 3
    assert sizes[0] < sizes[1] == sizes[2]
    assert {ask.driver for ask in order.asks} == {"ctranslate2"}
    assert order.holds == {"services": 1}


def test_a_shared_embedding_service_costs_no_place() -> None:
    order = compile_order(spec(embedding_service="svc_1", embedding_model="other"), KNOWN)
    assert len(order.asks) == 1
    assert order.priced_models == ("writer",)
    assert {item for _, item in order.priced_counts} == {"other"}


def test_it_is_priced_by_tokens_of_both_models_and_by_what_is_counted() -> None:
    order = compile_order(spec(), KNOWN)
    assert order.priced_models == ("writer", "all-minilm-l6-v2")
    assert [meter.value for meter, _ in order.priced_counts] == ["queries", "documents_indexed", "chunk_days"]


def test_a_large_model_answers_on_devices() -> None:
    order = compile_order(spec(model="large", device_class="H100", replicas=2), KNOWN)
    assert [ask.driver for ask in order.asks] == ["ctranslate2", "vllm", "vllm"]
    assert order.holds["devices:H100"] == 4
    assert sum(one.count for one in order.gpu_orders) == 4


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"model": "absent"}, "spec.model"),
        ({"model": "all-minilm-l6-v2"}, "spec.model"),
        ({"embedding_model": "writer"}, "spec.embedding_model"),
        ({"chunk_characters": 200, "overlap_characters": 101}, "spec.overlap_characters"),
        ({"model": "large"}, "spec.device_class"),
        ({"language": "klingon"}, "spec.language"),
        ({"adapters": ["x"]}, "spec"),
        ({"replicas": 0}, "spec.replicas"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        compile_order(spec(**asked), KNOWN)
    assert caught.value.field == field


def test_the_form_is_a_valid_schema_in_which_each_field_says_what_it_is() -> None:
    Draft202012Validator.check_schema(FORM)
    assert all(field["title"] and field["description"] for field in FORM["properties"].values())
