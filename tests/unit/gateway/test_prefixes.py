"""Beginnings of prompts: equal ones are found again, others are not, and memory is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.prefixes import BLOCK_BYTES, BLOCKS_PER_PROMPT_MAX, PrefixIndex, blocks_of


def test_a_block_stands_for_everything_before_it() -> None:
    same = b"a" * BLOCK_BYTES
    one, other = blocks_of(same + same + b"tail"), blocks_of(b"b" * BLOCK_BYTES + same)
    assert len(one) == len(other) == 2
    assert one[0] == blocks_of(same)[0]
    assert one[1] != other[1]
    assert blocks_of(b"short") == []
    assert len(blocks_of(same * (BLOCKS_PER_PROMPT_MAX + 5))) == BLOCKS_PER_PROMPT_MAX


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 6), max_size=6), st.integers(0, 3)), max_size=12),
    st.lists(st.integers(1, 6), max_size=6),
)
def test_the_longest_beginning_of_each_engine_is_found(
    sent: list[tuple[list[int], int]], asked: list[int]
) -> None:
    index = PrefixIndex(1_000)
    held: dict[int, set[int]] = {}
    for blocks, engine in sent:
        index.add(blocks, engine)
        held.setdefault(engine, set()).update(blocks)
    expected = {}
    for engine, blocks in held.items():
        depth = next((i for i, block in enumerate(asked) if block not in blocks), len(asked))
        if depth:
            expected[engine] = depth
    assert index.matched(asked) == expected


def test_what_was_used_longest_ago_is_forgotten() -> None:
    index = PrefixIndex(3)
    index.add([1, 2], 0)
    index.add([3], 0)
    index.add([1], 1)
    index.add([4], 0)
    assert len(index) == 3
    assert index.matched([1, 2]) == {0: 1, 1: 1}
    assert index.matched([2]) == {}


def test_an_engine_that_is_gone_is_forgotten() -> None:
    index = PrefixIndex(10)
    index.add([1, 2], 0)
    index.add([1], 1)
    index.forget(0)
    assert index.matched([1, 2]) == {1: 1}
    assert len(index) == 1
