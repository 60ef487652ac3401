"""How values are written for people, and documents for programs."""

import io
import json
import time

import pytest
import yaml

from penstock.cli import output
from penstock.cli.output import Format, Kind, first_few


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, Kind.COUNT, "-"),
        ("", Kind.TEXT, "-"),
        (0, Kind.COUNT, "0"),
        (1234567, Kind.COUNT, "1,234,567"),
        (1_500_000, Kind.MICROEUR, "1.50 EUR"),
        (500, Kind.MICROEUR, "0.0005 EUR"),
        (True, Kind.TEXT, "yes"),
        ({}, Kind.TEXT, "-"),
        (3 << 30, Kind.BYTES, "3.0 GiB"),
        (3_400_000, Kind.MICROSECONDS, "3.4 s"),
        (False, Kind.FLAG, "no"),
        (["a", "b"], Kind.LIST, "a, b"),
        ([], Kind.LIST, "-"),
        ("x", Kind.TEXT, "x"),
    ],
)
def test_values_are_written_with_their_unit(value: object, kind: Kind, text: str) -> None:
    assert output.written(value, kind) == text


def test_times_are_local_unless_utc_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert output.local_time("2026-07-01T10:00:00.5Z") == "2026-07-01 12:00:00 CEST"
        assert output.local_time("2026-07-01T10:00:00Z", utc=True) == "2026-07-01 10:00:00 UTC"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_dotted_paths_reach_into_documents() -> None:
    document = {"a": {"b": 1}, "c": 2}
    assert output.at(document, "a.b") == 1
    assert output.at(document, "c.b") is None
    assert output.at(document, "x.y.z") is None


def test_json_and_yaml_are_the_document_itself() -> None:
    document = {"items": [{"id": "é", "n": None}], "next": None}
    for kind, load in ((Format.JSON, json.loads), (Format.YAML, yaml.safe_load)):
        stream = io.StringIO()
        output.show_document(document, kind, stream)
        assert load(stream.getvalue()) == document


def test_a_long_list_of_places_says_how_many_more_there_are() -> None:
    assert first_few(["a", "b", "a"]) == "a, b"
    assert first_few((f"n{number}" for number in range(10)), "; ", shown_max=2) == "n0; n1; and 8 more"
    assert first_few([]) == ""
