"""The retrieval set asks nothing that stands in its sections, and the figures are counted as their names say."""

from pathlib import Path
from typing import Any

import numpy as np

from bench import rag_corpus, rag_scale
from bench.rag_corpus import Bm25, Question

SOURCE = '''"""Move files between places that are far apart.

This part says more than a hundred and twenty characters about what happens to <files> that are moved: {more}
"""


def short():
    """Do it at once."""


def twice():
    """Say the same thing in two places.

    {more}
    """


def again():
    """Say the same thing in two places.

    {more}
    """
'''


def library(folder: Path) -> list[rag_corpus.Section]:
    (folder / "test").mkdir()
    for name in ("_move.py", "store.py", "test/left_out.py"):
        (folder / name).write_text(SOURCE.replace("{more}", "words " * 30))
    return rag_corpus.sections(folder)


def test_a_section_is_the_docstring_without_its_summary(tmp_path: Path) -> None:
    found = library(tmp_path)
    assert [one.heading for one in found] == [
        *(f"Part {n} of _move" for n in (1, 2, 3)),
        *(f"Part {n} of store" for n in (1, 2, 3)),
    ]
    assert found[0].summary == "Move files between places that are far apart."
    assert not any(one.summary in one.text for one in found)
    documents = rag_corpus.documents(found)
    assert list(documents) == ["m.html", "s.html"]
    assert "<h2>Part 1 of _move</h2>" in documents["m.html"]
    assert "&lt;files&gt;" in documents["m.html"]


def test_only_a_summary_that_is_the_only_one_is_a_question(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    found = library(tmp_path / "one")
    assert rag_corpus.questions(found, 10, 1) == [], "each stands in two modules"
    first = [one for one in found if one.module == "_move"]
    assert rag_corpus.questions(first, 10, 1) == [
        Question("Move files between places that are far apart.", "Part 1 of _move")
    ]


def test_bm25_prefers_rare_words_and_short_texts() -> None:
    bags = [
        {"pump": 1, "other": 9},
        {"valve": 1, "the": 1},
        {"pump": 1},
        {"the": 1, "pipe": 1},
        {"the": 1, "gate": 1},
    ]
    assert Bm25(bags).best(["pump", "the"], 2) == [2, 1]
    assert Bm25(bags).best(["nothing"], 2) == []


def test_quality_counts_places() -> None:
    assert rag_corpus.place_of("b", ["a", "b", "b"]) == 2
    assert rag_corpus.place_of("c", ["a", None]) is None
    assert rag_corpus.quality([1, 4, 8, None]) == {
        "recall_at_5": 0.5,
        "recall_at_10": 0.75,
        "mrr_at_10": round((1 + 1 / 4 + 1 / 8) / 4, 4),
    }


def test_mixtures_are_unit_vectors_near_what_they_are_made_of() -> None:
    real = np.eye(16, dtype=np.float32)
    made, pairs = rag_scale.mixtures(real, 200, 3)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    cosines: Any = (made * real[pairs[:, 0]]).sum(1)
    mean = float(cosines.mean())
    assert 0.7 < mean < 0.99
    assert np.array_equal(made, rag_scale.mixtures(real, 200, 3)[0])


def test_exact_search_has_the_floor_of_searches() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    assert rag_scale.exact(vectors[:1], vectors, 3) == [[0, 1]]
    assert rag_scale.recall([[0, 5]], [[0, 1]]) == 0.5
