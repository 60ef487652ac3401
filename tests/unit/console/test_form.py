"""Order forms from JSON Schemas, and what is typed into them turned back into values."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.catalog.base import editable_form, merge_order
from penstock.catalog.gpu.spec import FORM as GPU
from penstock.catalog.llm.spec import FORM as LLM
from penstock.catalog.vm.spec import FORM as VM
from penstock.console.form import EUR, fields_of, folded, instant_of, seconds_of, values_of


def by_name(form: Any, given: Any = (), choices: Any = ()) -> dict[str, Any]:
    return {field.name: field for field in fields_of(form, dict(given), dict(choices))}


def test_each_type_has_its_control_and_its_limits() -> None:
    fields = by_name(GPU, choices={"device_class": ["H100", "GB200"]})
    controls = {name: field.control for name, field in fields.items()}
    assert {name.removesuffix(EUR) for name in controls} == set(GPU["properties"])
    assert controls[f"microeur_per_hour_max{EUR}"] == "money"
    assert (controls["count"], controls["memory_gib_min"], controls["slices"]) == ("number",) * 3
    assert (controls["device_class"], controls["within"]) == ("choose", "choose")
    assert (controls["same_nvlink_domain"], controls["preemptible"]) == ("check", "check")
    most = GPU["properties"]["count"]["maximum"]
    assert (fields["count"].value, fields["count"].minimum, fields["count"].maximum) == ("1", 1, most)
    assert fields["count"].required
    assert [choice.name for choice in fields["device_class"].choices] == ["any", "H100", "GB200"]
    assert fields["same_nvlink_domain"].value == ""
    assert by_name(LLM)["model"].control == "text", "without known values a text is typed"


def test_the_only_model_is_chosen_already_and_a_given_value_stays() -> None:
    assert by_name(LLM, choices={"model": ["demo"]})["model"].value == "demo"
    field = by_name(LLM, {"model": "gone"}, {"model": ["demo"]})["model"]
    assert (field.value, [choice.value for choice in field.choices]) == ("gone", ["gone", "demo"])


def test_hints_speak_of_the_page_and_of_fields_that_are_there() -> None:
    whole = by_name(GPU)["count"].hint
    assert whole == "How many devices, or how many slices if 'slices' is set."
    cut = by_name(editable_form(GPU, {"slices": 0}))["count"].hint
    assert cut == "How many devices."
    assert "penstock" not in by_name(LLM)["model"].hint


def test_what_is_filled_in_is_typed_and_what_is_left_empty_is_left_out() -> None:
    filled = {"count": [" 8 "], "device_class": [""], "memory_gib_min": [""], "same_nvlink_domain": ["on"]}
    unchecked = {"preemptible": False}
    assert values_of(GPU, filled) == {
        "count": 8,
        "device_class": None,
        "same_nvlink_domain": True,
        **unchecked,
    }
    assert values_of(GPU, {}) == {"same_nvlink_domain": False, **unchecked}


@pytest.mark.parametrize("text", ["two", "1.5", "0x10", "1e3"])
def test_a_number_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        values_of(GPU, {"count": [text]})
    assert caught.value.field == "spec.count"


@given(
    st.integers(1, 72),
    st.sampled_from([None, "H100"]),
    st.integers(0, 4096),
    st.integers(0, 8),
    st.booleans(),
)
def test_a_form_that_is_sent_back_as_it_was_drawn_is_the_same_order(
    count: int, name: str | None, memory: int, slices: int, linked: object
) -> None:
    spec = {
        "count": count,
        "device_class": name,
        "memory_gib_min": memory,
        "slices": slices,
        "same_nvlink_domain": linked,
    }
    drawn = by_name(GPU, spec, {"device_class": ["H100"]})
    sent = {field.name: [field.value] for field in drawn.values() if field.control != "check" or field.value}
    assert merge_order(GPU, {}, values_of(GPU, sent)) == merge_order(GPU, {}, spec)


def test_rare_fields_are_folded_by_what_they_are_about_and_none_is_lost() -> None:
    fields = fields_of(GPU, {"within": "rack", "slices": 0}, {})
    groups = folded(fields)
    assert groups[0][0] == ""
    assert [field.name for field in groups[0][1]] == ["count", "device_class"]
    assert sorted(field.name for _, some in groups for field in some) == sorted(
        field.name for field in fields
    )
    opened = {name for name, some in groups if any(field.is_set for field in some)}
    assert opened == {"Where they stand to each other"}, "a value that is the default opens nothing"
    assert folded(fields_of({"properties": {}}, {}, {})) == [("", [])]


def test_money_is_filled_in_in_euro() -> None:
    name = f"microeur_per_hour_max{EUR}"
    assert by_name(GPU, {"microeur_per_hour_max": 2_500_000})[name].value == "2.5"
    assert by_name(GPU)[name].title == "Price cap (EUR)"
    for text, microeur in (("2.50", 2_500_000), ("2,5", 2_500_000), ("0", 0), ("", None), ("0.000001", 1)):
        assert values_of(GPU, {name: [text]})["microeur_per_hour_max"] == microeur
    assert values_of(GPU, {"microeur_per_hour_max": ["7"]})["microeur_per_hour_max"] == 7, "as links have it"


@pytest.mark.parametrize("text", ["x", "NaN", "Infinity", "-1", "0.0000001", "1e30", "2.5 EUR"])
def test_what_is_no_amount_is_named(text: str) -> None:
    with pytest.raises(InvalidInputError, match="amount in euro") as refused:
        values_of(GPU, {f"microeur_per_hour_max{EUR}": [text]})
    assert refused.value.field == "spec.microeur_per_hour_max"


def test_an_optional_field_without_a_default_begins_unchosen_and_is_left_out() -> None:
    field = by_name(LLM, choices={"device_class": ["A100", "H100"]})["device_class"]
    assert (field.value, [choice.value for choice in field.choices]) == ("", ["", "A100", "H100"])
    filled = {one.name: [one.value] for one in fields_of(LLM, {"model": "demo"}, {"device_class": ["A100"]})}
    assert values_of(LLM, filled) == {"model": "demo", "replicas": 1}, "what nobody touched says nothing"


def test_lists_tags_and_start_up_data_of_a_machine_go_there_and_back() -> None:
    fields = by_name(VM, choices={"ssh_keys": ["ada", "bob"], "image": ["alpine"]})
    controls = {name: fields[name].control for name in ("ssh_keys", "ports", "tags", "user_data", "image")}
    assert controls == {
        "ssh_keys": "pick",
        "ports": "list",
        "tags": "pairs",
        "user_data": "encoded",
        "image": "choose",
    }
    filled = {
        "image": ["alpine"],
        "ssh_keys": ["ada", "bob"],
        "ports": ["web-1, web-2"],
        "tags": ["tier=web\n\nowner = ada"],
        "user_data": ["#cloud-config\n"],
    }
    values = values_of(VM, filled)
    assert values["ssh_keys"] == ["ada", "bob"]
    assert values["ports"] == ["web-1", "web-2"]
    assert values["tags"] == {"tier": "web", "owner": "ada"}
    assert base64.b64decode(values["user_data"]) == b"#cloud-config"
    shown = by_name(VM, values, {"ssh_keys": ["ada", "bob"]})
    assert shown["ssh_keys"].value == "ada\nbob"
    assert shown["tags"].value == "tier=web\nowner=ada"
    assert shown["user_data"].value == "#cloud-config"
    merge_order(VM, {}, values)
    with pytest.raises(InvalidInputError) as wrong:
        values_of(VM, {"tags": ["no sign"]})
    assert wrong.value.field == "spec.tags"


def test_times_are_utc_and_lengths_have_a_unit() -> None:
    assert instant_of("2026-12-24T18:30", "start", "Begins") == datetime(2026, 12, 24, 18, 30, tzinfo=UTC)
    assert instant_of("", "start", "Begins") is None
    assert seconds_of("90", "minutes", "length", "For") == 5_400
    assert seconds_of("2", "days", "length", "For") == 172_800
    assert seconds_of("", "hours", "length", "For") is None
    for number, unit in (
        ("1.5", "hours"),
        ("-1", "hours"),
        ("2", "weeks"),
        ("\u0661", "hours"),
        ("1e9", "days"),
    ):
        with pytest.raises(InvalidInputError) as wrong:
            seconds_of(number, unit, "length", "For")
        assert wrong.value.field == "length"
    for text in ("tomorrow", "2026-13-01T00:00"):
        with pytest.raises(InvalidInputError) as wrong:
            instant_of(text, "start", "Begins")
        assert wrong.value.field == "start"
