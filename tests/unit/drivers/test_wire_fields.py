"""Taking JSON apart: whatever is sent, the answer is the value or the name of the field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.drivers.wire_fields import NUMBER_MAX, Fields, fitting

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def field_of(read: Any) -> str | None:
    with pytest.raises(InvalidInputError) as caught:
        read()
    return caught.value.field


@pytest.mark.parametrize("body", [None, [], "x", 1, True])
def test_a_body_is_an_object(body: object) -> None:
    assert field_of(lambda: Fields(body, "")) == "body"
    assert field_of(lambda: Fields(body, "nodes.3")) == "nodes.3"


def test_fields_that_nobody_asked_for_are_refused() -> None:
    body = Fields({"name": "x", "nmae": "y"}, "nodes.0")
    assert body.text("name", 9) == "x"
    assert field_of(body.refuse_others) == "nodes.0.nmae"
    body.optional_text("nmae", 9)
    body.refuse_others()


@pytest.mark.parametrize("value", [None, 1, "", "x" * 6, "a\0b", "\ud800", ["x"]])
def test_a_text_has_its_length_and_characters_that_can_be_stored(value: object) -> None:
    assert field_of(lambda: Fields({"t": value}, "").text("t", 5)) == "t"
    assert Fields({"t": ""}, "").text("t", 5, empty=True) == ""
    assert Fields({"t": "x" * 5}, "").text("t", 5) == "x" * 5
    assert Fields({}, "").optional_text("t", 5) is None


@pytest.mark.parametrize("value", [None, True, 1.0, "1", -1, 8, NUMBER_MAX + 1])
def test_a_count_is_a_whole_number_in_its_range(value: object) -> None:
    assert field_of(lambda: Fields({"n": value}, "a").count("n", 7)) == "a.n"
    assert Fields({"n": 7}, "").count("n", 7) == 7
    assert Fields({"n": None}, "").optional_count("n") is None
    assert Fields({"n": NUMBER_MAX}, "").count("n") == NUMBER_MAX


def test_flags_and_choices_are_exactly_that() -> None:
    assert Fields({"f": False}, "").flag("f") is False
    for value in (0, "false", None):
        assert field_of(lambda value=value: Fields({"f": value}, "").flag("f")) == "f"
    assert Fields({"c": "b"}, "").choice("c", ("a", "b")) == "b"
    assert Fields({}, "").choice("c", ("a", "b"), default="a") == "a"
    for value in ("B", "", 1, None, ["a"]):
        assert field_of(lambda value=value: Fields({"c": value}, "").choice("c", ("a", "b"))) == "c"


def test_lists_are_bounded_and_name_the_bad_entry() -> None:
    assert Fields({}, "").texts("l", 2, 5) == []
    assert field_of(lambda: Fields({"l": ["a", "b", "c"]}, "").texts("l", 2, 5)) == "l"
    assert field_of(lambda: Fields({"l": ["a", 1]}, "").texts("l", 2, 5)) == "l.1"
    assert field_of(lambda: Fields({"l": "ab"}, "").texts("l", 2, 5)) == "l"
    assert [row.count("n") for row in Fields({"l": [{"n": 1}, {"n": 2}]}, "").objects("l", 2)] == [1, 2]
    assert field_of(lambda: Fields({"l": [{}, 7]}, "x").objects("l", 2)) == "x.l.1"


def test_plain_objects_are_flat_enough_to_be_kept() -> None:
    rows = [{"node": 0, "cpus": "0-3", "deep": {"a": [1]}}]
    assert Fields({"l": rows}, "").plain_objects("l", 1) == rows
    for bad, field in (
        ({"a": {"b": {"c": [1]}}}, "l.0.a.b.c"),
        ({"a": "\0"}, "l.0.a"),
        ({"\0": 1}, "l.0"),
        ({"a": ["\ud800"]}, "l.0.a.0"),
    ):
        assert field_of(lambda bad=bad: Fields({"l": [bad]}, "").plain_objects("l", 1)) == field


def test_counts_by_name_are_bounded() -> None:
    assert Fields({}, "").counts("c", 2) == {}
    assert Fields({"c": {"ready": 5}}, "").counts("c", 2) == {"ready": 5}
    assert field_of(lambda: Fields({"c": {"a": 1, "b": 2, "c": 3}}, "").counts("c", 2)) == "c"
    assert field_of(lambda: Fields({"c": {"a": -1}}, "").counts("c", 2)) == "c.a"


@given(ANYTHING)
def test_nothing_that_is_sent_raises_anything_else(value: object) -> None:
    body = {"v": value}
    fields: list[str | None] = []
    for read in (
        lambda: Fields(value, ""),
        lambda: Fields(body, "").text("v", 3),
        lambda: Fields(body, "").optional_text("v", 3),
        lambda: Fields(body, "").count("v", 3),
        lambda: Fields(body, "").flag("v"),
        lambda: Fields(body, "").choice("v", ("a",)),
        lambda: Fields(body, "").texts("v", 2, 3),
        lambda: Fields(body, "").objects("v", 2),
        lambda: Fields(body, "").plain_objects("v", 2),
        lambda: Fields(body, "").mapping("v"),
        lambda: Fields(body, "").counts("v", 2),
    ):
        try:
            read()
        except InvalidInputError as error:
            fields.append(error.field)
    assert all(fields)


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_what_is_made_to_fit_is_accepted(text: str) -> None:
    cut = fitting(text, 10)
    assert Fields({"t": cut}, "").text("t", 10, empty=True) == cut
    assert fitting("gesund", 10) == "gesund"
