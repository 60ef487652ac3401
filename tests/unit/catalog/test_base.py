"""An order's full spec: the form's defaults, what was asked, and what the offer fixes, checked in that order."""

from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.catalog.base import check_fixed, editable_form, merge_order

FORM: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["model", "count"],
    "properties": {
        "model": {"type": "string"},
        "count": {"type": "integer", "minimum": 1, "maximum": 8, "default": 2},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
    },
}


def test_what_is_asked_beats_a_default_and_what_the_offer_fixes_beats_both() -> None:
    assert merge_order(FORM, {}, {"model": "m"}) == {"model": "m", "count": 2, "tags": []}
    assert merge_order(FORM, {"model": "fixed"}, {"count": 5}) == {"model": "fixed", "count": 5, "tags": []}


@pytest.mark.parametrize(
    ("asked", "field", "sentence"),
    [
        ({"count": 3}, "spec.count", "fixed by this offer to 4"),
        ({"model": 7}, "spec.model", "not of type 'string'"),
        ({"model": "m", "tags": ["a", 1]}, "spec.tags.1", "not of type 'string'"),
        ({}, "spec", "'model' is a required property"),
        ({"model": "m", "modle": "x"}, "spec", "this form has: model, count, tags"),
    ],
)
def test_a_refusal_names_the_field_and_what_is_wrong_with_it(
    asked: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        merge_order(FORM, {"count": 4}, asked)
    assert caught.value.field == field


def test_out_of_range_is_refused_also_where_only_the_offer_says_it() -> None:
    with pytest.raises(InvalidInputError) as caught:
        merge_order(FORM, {"count": 9}, {"model": "m"})
    assert caught.value.field == "spec.count"


def test_a_huge_value_makes_no_huge_sentence() -> None:
    with pytest.raises(InvalidInputError) as caught:
        merge_order(FORM, {}, {"model": ["x" * 100_000]})
    assert len(caught.value.sentence) < 400


def test_the_mapping_that_was_asked_is_left_alone() -> None:
    asked: dict[str, Any] = {"model": "m"}
    merge_order(FORM, {"count": 1}, asked)
    assert asked == {"model": "m"}


def test_an_offer_may_fix_a_part_of_the_form_and_nothing_else() -> None:
    check_fixed(FORM, {"count": 8})  # the required model is left to the order
    with pytest.raises(InvalidInputError, match="8") as caught:
        check_fixed(FORM, {"count": 9})
    assert caught.value.field == "fixed.count"
    with pytest.raises(InvalidInputError, match="this form has"):
        check_fixed(FORM, {"cuont": 1})


def test_a_person_fills_in_only_what_the_offer_leaves_open() -> None:
    shown = editable_form(FORM, {"model": "m"})
    assert list(shown["properties"]) == ["count", "tags"]
    assert shown["required"] == ["count"]
    assert shown["additionalProperties"] is False
    assert "model" in FORM["properties"]
    assert FORM["required"] == ["model", "count"]
