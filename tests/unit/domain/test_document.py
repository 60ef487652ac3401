"""Chunks: what a citation's offsets promise, for any text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.document import Block, assemble, cut

TEXTS = st.text(alphabet=st.sampled_from("ab .\n?é漢"), max_size=1_500)


@given(st.lists(st.tuples(TEXTS, st.integers(1, 3)), max_size=4), st.integers(20, 200), st.integers(0, 10))
def test_every_word_is_in_a_chunk_and_offsets_are_true(
    parts: list[tuple[str, int]], size: int, overlap: int
) -> None:
    extracted = assemble([Block(text, f"h{page}", page) for text, page in parts])
    chunks = cut(extracted, size, overlap)
    covered: set[int] = set()
    for number, chunk in enumerate(chunks):
        assert chunk.position == number
        assert 0 < len(chunk.text) <= size
        assert extracted.text[chunk.start : chunk.end] == chunk.text
        section = next(one for one in extracted.sections if one.start <= chunk.start < one.end)
        assert chunk.end <= section.end, "a chunk crosses no section"
        assert (chunk.heading, chunk.page) == (section.heading, section.page)
        covered.update(range(chunk.start, chunk.end))
    inside = {at for one in extracted.sections for at in range(one.start, one.end)}
    assert {at for at in inside if not extracted.text[at].isspace()} <= covered


def test_cuts_fall_where_a_thought_ends() -> None:
    text = "First thought is here. Second one follows it.\n\nA new paragraph begins and goes on for a while."
    first, *rest = cut(assemble([Block(text)]), 60, 0)
    assert first.text == "First thought is here. Second one follows it.\n\n"
    assert rest[0].text.startswith("A new paragraph")


def test_chunks_overlap_by_whole_words() -> None:
    chunks = cut(assemble([Block("alpha beta gamma delta epsilon zeta eta theta iota kappa " * 4)]), 60, 20)
    for before, after in itertools.pairwise(chunks):
        assert 0 < before.end - after.start <= 20
        assert after.text.split()[0] in before.text.split()


def test_an_overlap_of_more_than_half_is_a_defect() -> None:
    with pytest.raises(ValueError, match="half"):
        cut(assemble([Block("a")]), 10, 6)
