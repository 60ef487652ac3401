"""What a model is asked: quotations that nothing in a document can end, as many as there is room for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.passage import INSTRUCTION, Ranking, citations, fitting, messages, ranking_of


def passage(text: str, **more: Any) -> dict[str, Any]:
    return {"document_name": "a.md", "heading": None, "page": None, "text": text, **more}


@given(st.lists(st.text(st.sampled_from("<> a\n[]"), max_size=40), min_size=1, max_size=4))
def test_no_text_of_a_document_ends_its_quotation(texts: list[str]) -> None:
    system, user = messages("why?", [passage(text) for text in texts])
    assert system == {"role": "system", "content": INSTRUCTION}
    lines = user["content"].split("\n")
    assert lines.count("<<<") == lines.count(">>>") == user["content"].count("\n<<<\n") == len(texts)
    assert user["content"].endswith("\n>>>\n\nQuestion: why?")


def test_a_quotation_says_where_it_stands() -> None:
    one = passage("Open it.", heading="Valves", page=3)
    assert messages("why?", [one])[1]["content"].startswith("[1] (a.md, Valves, page 3)\n<<<\nOpen it.\n>>>")
    assert citations([one, passage("x")])[1]["number"] == 2


def test_a_ranking_is_read_in_the_form_of_jina_cohere_and_vllm() -> None:
    results = [{"index": 1, "relevance_score": 0.9, "document": {}}, {"index": 0, "relevance_score": 0.2}]
    told = ranking_of({"results": results, "usage": {"total_tokens": 31}}, "why?", ["a", "b"])
    assert told == Ranking(((1, 0.9), (0, 0.2)), 31, estimated=False)
    silent = ranking_of({"results": results[::-1]}, "why?", ["a" * 36, "b" * 36])
    assert silent == Ranking(((1, 0.9), (0, 0.2)), 20, estimated=True)


@pytest.mark.parametrize(
    "results",
    [
        None,
        [],
        [{"index": 2, "relevance_score": 1}],
        [{"index": -1, "relevance_score": 1}],
        [{"index": True, "relevance_score": 1}],
        [{"index": 0, "relevance_score": 1}] * 2,
        [{"index": 0, "relevance_score": float("nan")}],
        [{"index": 0, "relevance_score": "high"}],
    ],
    ids=["none", "empty", "beyond", "negative", "no-number", "twice", "nan", "text"],
)
def test_what_ranks_nothing_is_refused(results: object) -> None:
    with pytest.raises(ValueError, match="no "):
        ranking_of({"results": results}, "why?", ["a", "b"])


def test_the_first_passages_that_there_is_room_for_are_quoted_and_always_one() -> None:
    found = [passage("x" * 1_000) for _ in range(8)]
    assert len(fitting(found, 4_096)) == 8
    assert 1 < len(fitting(found, 1_600)) < 8
    assert len(fitting(found, -5)) == 1
    assert fitting([], 4_096) == []
