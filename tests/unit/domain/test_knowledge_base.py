"""Rankings become one: places count, not scores, and ties have an order."""

import pytest

from penstock.domain.knowledge_base import fuse


def test_what_both_rankings_have_comes_first() -> None:
    best = fuse({"vector": ["a", "b", "c"], "text": ["c", "d"]}, 3)
    assert [one.key for one in best] == ["c", "a", "b"]
    assert best[0].places == {"vector": 3, "text": 1}
    assert best[0].score == pytest.approx(1 / 63 + 1 / 61)


def test_ties_are_broken_by_key_and_nothing_gives_nothing() -> None:
    assert [one.key for one in fuse({"x": ["b"], "y": ["a"]}, 5)] == ["a", "b"]
    assert fuse({"x": [], "y": []}, 5) == []
