"""What the agents are told of an LLM endpoint: one engine process per replica, under the service's name."""

from penstock.catalog.base import Known, ModelFacts
from penstock.catalog.known import known_from
from penstock.catalog.llm.recipe import LlmKind
from penstock.catalog.llm.spec import compile_order
from penstock.domain.claim import Grant
from penstock.domain.price import Meter
from penstock.drivers.ctranslate2.checkpoint import demo_model_dir

KNOWN = Known({}, {"m": ModelFacts("m", "/models/m", 1 << 20, ("ctranslate2",))})
SPEC = {"model": "m", "replicas": 3}


def share(node_id: str) -> Grant:
    return Grant(node_id, None, 0, 1 << 28, 250)


def test_each_replica_is_started_where_its_own_grant_is() -> None:
    grants = [[share("nod_a")], [share("nod_b")], [share("nod_a")]]
    drafts = LlmKind().drafts("hello", SPEC, grants, {}, KNOWN)
    assert [draft.node_id for draft in drafts] == ["nod_a", "nod_b", "nod_a"]
    assert [draft.grants for draft in drafts] == [tuple(one) for one in grants]
    assert {draft.driver for draft in drafts} == {"ctranslate2"}


def test_clients_call_it_by_the_name_of_the_service_and_it_loads_the_models_folder() -> None:
    (draft,) = LlmKind().drafts("hello", SPEC, [[share("nod_a")]], {}, KNOWN)
    assert draft.config["served_model_name"] == "hello"
    assert draft.config["model_dir"] == "/models/m"


def test_a_model_of_the_package_is_named_and_any_other_located() -> None:
    rows = [
        {"name": "shipped", "folder": str(demo_model_dir()), "size_bytes": 1, "engines": ["ctranslate2"]},
        {"name": "mine", "folder": "/models/m", "size_bytes": 1, "engines": ["ctranslate2"]},
        {"name": "copy", "folder": str(demo_model_dir() / "x"), "size_bytes": 1, "engines": ["ctranslate2"]},
    ]
    folders = {name: model.folder for name, model in known_from({}, rows).models.items()}
    assert folders == {
        "shipped": "package:penstock-demo-5m",
        "mine": "/models/m",
        "copy": str(demo_model_dir() / "x"),
    }


def test_the_driver_that_was_asked_for_is_the_one_that_is_started() -> None:
    asked = {ask.driver for ask in compile_order(SPEC, KNOWN).asks}
    started = {draft.driver for draft in LlmKind().drafts("x", SPEC, [[share("nod_a")]], {}, KNOWN)}
    assert asked == started


def test_it_holds_no_devices_and_is_charged_by_tokens() -> None:
    assert LlmKind().class_holds(SPEC, "H100", KNOWN) == {}
    assert set(LlmKind.meters) == {Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS}
