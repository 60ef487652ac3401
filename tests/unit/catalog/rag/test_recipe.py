"""What the agents are told of a RAG service: its own embedding engine by a name that nobody calls, and what answers."""

from penstock.catalog.base import Known, ModelFacts, merge_order
from penstock.catalog.rag.recipe import RagKind
from penstock.catalog.rag.spec import FORM
from penstock.domain.claim import Grant
from penstock.domain.price import Meter

WRITER = ModelFacts("writer", "/m/writer", 1 << 20, ("ctranslate2",))
MINI = ModelFacts("all-minilm-l6-v2", "/m/mini", 1 << 20, ("ctranslate2",), "embedding")
KNOWN = Known({}, {model.name: model for model in (WRITER, MINI)})


def share(node_id: str) -> Grant:
    return Grant(node_id, None, 0, 1 << 28, 250)


def test_each_engine_stands_on_its_own_grant() -> None:
    spec = merge_order(FORM, {}, {"model": "writer", "replicas": 2})
    grants = [[share("nod_a")], [share("nod_b")], [share("nod_c")]]
    assert len(RagKind().compile(spec, KNOWN).asks) == len(grants)
    drafts = RagKind().drafts("handbook", spec, grants, {}, KNOWN)
    assert [(draft.node_id, draft.config["served_model_name"]) for draft in drafts] == [
        ("nod_a", "handbook-embedding"),
        ("nod_b", "handbook"),
        ("nod_c", "handbook"),
    ]
    assert [draft.config["model_dir"] for draft in drafts] == ["/m/mini", "/m/writer", "/m/writer"]


def test_with_a_shared_embedding_service_only_what_answers_is_started() -> None:
    spec = merge_order(FORM, {}, {"model": "writer", "embedding_service": "svc_1"})
    drafts = RagKind().drafts("handbook", spec, [[share("nod_a")]], {}, KNOWN)
    assert [draft.config["served_model_name"] for draft in drafts] == ["handbook"]


def test_it_is_charged_by_tokens_and_by_what_is_counted() -> None:
    assert set(RagKind.meters) == {
        Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS, Meter.QUERIES, Meter.DOCUMENTS_INDEXED, Meter.CHUNK_DAYS,
    }  # fmt: skip
    assert RagKind().class_holds({}, "H100", KNOWN) == {}
