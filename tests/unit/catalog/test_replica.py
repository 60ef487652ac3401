"""Which engine serves an order, and what a replica of it takes."""

from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Known, ModelFacts, Place
from penstock.catalog.llm.spec import compile_order
from penstock.catalog.replica import devices_needed, draft_of, engine_of
from penstock.domain.claim import Grant, Level
from penstock.domain.device import load_device_classes

GIB = 1 << 30
SMALL = ModelFacts("small", "/m/small", 16 * GIB, ("vllm", "ctranslate2"))
LARGE = ModelFacts("large", "/m/large", 140 * GIB, ("vllm",))
CLASSES = load_device_classes()
SQL = ModelFacts("sql", "/a/sql", 1, ("vllm",), "adapter", "large")
KNOWN = Known(CLASSES, {model.name: model for model in (SMALL, LARGE, SQL)})


@pytest.mark.parametrize(
    ("model", "spec", "engine"),
    [
        (SMALL, {}, "ctranslate2"),
        (SMALL, {"device_class": "H100"}, "vllm"),
        (SMALL, {"engine": "vllm", "device_class": "H100"}, "vllm"),
        (LARGE, {}, "vllm"),
    ],
)
def test_the_engine_follows_from_the_order_and_the_model(
    model: ModelFacts, spec: dict[str, Any], engine: str
) -> None:
    assert engine_of(spec, model) == engine


@pytest.mark.parametrize(
    ("model", "spec", "field"),
    [
        ("large", {"engine": "ctranslate2"}, "spec.engine"),
        ("small", {"engine": "ctranslate2", "devices": 2}, "spec.devices"),
        ("small", {"engine": "ctranslate2", "device_class": "H100"}, "spec.device_class"),
        ("large", {}, "spec.device_class"),
        ("large", {"device_class": "Z9"}, "spec.device_class"),
    ],
)
def test_what_does_not_go_together_is_named(model: str, spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        compile_order({"model": model, "replicas": 1, **spec}, KNOWN)
    assert caught.value.field == field


def test_a_replica_asks_for_as_many_devices_of_one_node_as_it_needs() -> None:
    order = compile_order({"model": "large", "replicas": 2, "device_class": "H100"}, KNOWN)
    assert [(ask.count, ask.device_class, ask.within, ask.driver) for ask in order.asks] == [
        (4, "H100", Level.NODE, "vllm")
    ] * 2
    assert order.holds["devices:H100"] == 8
    assert [(one.device_class, one.count) for one in order.gpu_orders] == [("H100", 8)]
    assert order.priced_models == ("large",)
    (one,) = compile_order({"model": "small", "replicas": 1, "device_class": "H100"}, KNOWN).asks
    assert (one.count, one.within) == (1, None)
    (two,) = compile_order(
        {"model": "small", "replicas": 1, "device_class": "H100", "devices": 2}, KNOWN
    ).asks
    assert two.count == 2


def test_weights_leave_room_for_a_cache_and_too_large_a_model_is_refused() -> None:
    assert devices_needed(51 * GIB, CLASSES["H100"]) == 1
    assert devices_needed(53 * GIB, CLASSES["H100"]) == 2
    with pytest.raises(InvalidInputError, match="do not hold"):
        devices_needed(500 * GIB, CLASSES["H100"])


def test_the_agent_is_told_the_positions_of_the_devices() -> None:
    grants = [Grant("nod_1", f"dev_{n}", 127, 0, 0) for n in (5, 2)]
    places = {f"dev_{n}": Place("n1", n) for n in (5, 2)}
    spec = {"model": "large", "device_class": "H100", "fp8_cache": True, "adapters": ["sql"]}
    draft = draft_of("chat", spec, KNOWN, grants, places)
    assert (draft.node_id, draft.driver) == ("nod_1", "vllm")
    assert draft.config == {
        "model_dir": "/m/large",
        "served_model_name": "chat",
        "devices": [2, 5],
        "device_class": "H100",
        "context_tokens": 0,
        "fp8_cache": True,
        "adapters": [{"name": "chat:sql", "folder": "/a/sql"}],
    }


@pytest.mark.parametrize(
    ("spec", "field", "sentence"),
    [
        ({"model": "sql"}, "spec.model", "order that model with this one"),
        ({"model": "large", "device_class": "H100", "adapters": ["nope"]}, "spec.adapters", "there are: sql"),
        ({"model": "small", "device_class": "H100", "adapters": ["sql"]}, "spec.adapters", "there are: none"),
        ({"model": "small", "adapters": ["sql"]}, "spec.adapters", "ctranslate2 has no such thing"),
    ],
)
def test_adapters_go_with_their_model_on_vllm(spec: dict[str, Any], field: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        compile_order({"replicas": 1, **spec}, KNOWN)
    assert caught.value.field == field
