"""An LLM order asks for a share of a node per replica, sized by its model's weights."""

import pytest
from jsonschema import Draft202012Validator

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.catalog.base import Known, ModelFacts, merge_order
from penstock.catalog.llm.spec import FORM, compile_order

SMALL = ModelFacts("small", "/models/small", 100 << 20, ("ctranslate2",))
LARGE = ModelFacts("large", "/models/large", 300 << 20, ("ctranslate2",))
FOREIGN = ModelFacts("foreign", "/models/foreign", 1, ("another",))
KNOWN = Known({}, {model.name: model for model in (SMALL, LARGE, FOREIGN)})


def test_each_replica_is_an_ask_of_its_own_that_needs_no_device() -> None:
    order = compile_order({"model": "small", "replicas": 3}, KNOWN)
    assert len(order.asks) == 3
    assert {ask.count for ask in order.asks} == {0}
    assert {ask.driver for ask in order.asks} == {"ctranslate2"}
    assert all(ask.node_cpu_millis > 0 for ask in order.asks)


def test_memory_grows_with_the_weights_twice_over() -> None:
    small, large = (
        compile_order({"model": name, "replicas": 1}, KNOWN).asks[0].node_memory_bytes
        for name in ("small", "large")
    )
    assert large - small == 2 * (LARGE.size_bytes - SMALL.size_bytes)
    assert small > 2 * SMALL.size_bytes  # the engine itself needs room too


def test_it_is_one_service_of_a_quota_and_priced_by_its_model() -> None:
    order = compile_order({"model": "large", "replicas": 2}, KNOWN)
    assert order.holds == {"services": 1}
    assert order.priced_models == ("large",)
    assert order.gpu_orders == ()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("absent", "there are: foreign, large, small"), ("foreign", "no engine of this factory serves")],
)
def test_a_model_that_cannot_be_served_is_refused_by_the_name_of_the_field(name: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        compile_order({"model": name, "replicas": 1}, KNOWN)
    assert caught.value.field == "spec.model"


def test_an_empty_catalogue_says_so() -> None:
    with pytest.raises(InvalidInputError, match="none yet"):
        compile_order({"model": "small", "replicas": 1}, Known({}, {}))


def test_the_form_is_a_valid_schema_and_bounds_the_replicas() -> None:
    Draft202012Validator.check_schema(FORM)
    most = limits.REPLICAS_PER_SERVICE_MAX
    assert merge_order(FORM, {}, {"model": "m", "replicas": most})["replicas"] == most
    for replicas in (0, most + 1, 1.5, True):
        with pytest.raises(InvalidInputError) as caught:
            merge_order(FORM, {}, {"model": "m", "replicas": replicas})
        assert caught.value.field == "spec.replicas"
