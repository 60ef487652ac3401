"""`--set key=value` becomes what the form says it is, or a sentence that says what it takes."""

import io
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.catalog.gpu.spec import FORM as GPU_FORM
from penstock.cli.errors import CliError
from penstock.cli.spec import as_settings, filled_in, typed

FORM: dict[str, Any] = {
    "properties": {
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "name": {"type": ["string", "null"]},
        "fast": {"type": "boolean"},
        "tags": {"type": "array"},
        "labels": {"type": "object"},
        "size": {"type": ["integer", "string"]},
        "plain": {},
    }
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "4", 4),
        ("count", "-4", -4),
        ("share", "0.5", 0.5),
        ("name", "GB200", "GB200"),
        ("name", "null", None),
        ("name", "None", None),
        ("name", "", ""),
        ("fast", "yes", True),
        ("fast", "FALSE", False),
        ("tags", '["a", 1]', ["a", 1]),
        ("labels", '{"a": 1}', {"a": 1}),
        ("size", "7", 7),
        ("size", "large", "large"),
        ("plain", "12", "12"),
    ],
)
def test_a_value_has_the_type_of_the_form(name: str, text: str, value: object) -> None:
    found = typed(FORM, name, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("count", "four"),
        ("count", "4.0"),
        ("share", "half"),
        ("fast", "maybe"),
        ("tags", "{}"),
        ("labels", "a"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_it_takes(name: str, text: str) -> None:
    with pytest.raises(CliError, match=rf"'{name}' takes .*not '{text}'") as refusal:
        typed(FORM, name, text)
    assert refusal.value.exit_code == 2


def test_an_unknown_field_is_refused_with_the_fields_there_are() -> None:
    with pytest.raises(CliError, match=r"no field 'colour'.*count, device_class"):
        filled_in(GPU_FORM, ["colour=red"], None)


def test_settings_go_over_the_document_and_may_hold_equals_signs() -> None:
    assert filled_in(FORM, ["name=a=b", "count=2"], '{"count": 1, "fast": true}') == {
        "count": 2,
        "fast": True,
        "name": "a=b",
    }
    with pytest.raises(CliError, match="not of the form key=value"):
        filled_in(FORM, ["count"], None)


def test_a_document_comes_from_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spec.json").write_text('{"count": 3}')
    assert filled_in(FORM, (), f"@{tmp_path / 'spec.json'}") == {"count": 3}
    monkeypatch.setattr("sys.stdin", io.StringIO('{"count": 5}'))
    assert filled_in(FORM, (), "-") == {"count": 5}


@pytest.mark.parametrize(
    ("text", "why"), [("{", "not JSON"), ("[1]", "JSON object"), ("@/no/such/file", "read")]
)
def test_a_document_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(CliError, match=why):
        filled_in(FORM, (), text)


@given(
    st.fixed_dictionaries(
        {
            "count": st.integers(),
            "fast": st.booleans(),
            "name": st.none()
            | st.text(st.characters(blacklist_categories=["Cs", "Cc"])).filter(
                lambda t: t.lower() not in ("null", "none")
            ),
            "tags": st.lists(st.integers()),
        }
    )
)
def test_what_is_written_as_settings_reads_back_the_same(spec: dict[str, Any]) -> None:
    words = shlex.split(as_settings(spec))
    assert filled_in(FORM, [word for word in words if word != "--set"], None) == spec
