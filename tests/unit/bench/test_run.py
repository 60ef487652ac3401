"""The driver of the benches keeps what they print and judges it by the limits of figures.toml."""

import json
from pathlib import Path

import pytest

from bench import run
from tests.habits.sources import python

HERE = run.HERE


def outcome(*records: dict[str, object], failure: str = "") -> dict[str, run.Outcome]:
    return {"b": run.Outcome("b", records, 1.0, failure)}


def test_lines_that_are_json_are_figures_and_others_are_not() -> None:
    assert run.records_in('starting\n{"bench": "b", "x_s": 1}\n[1]\n') == [{"bench": "b", "x_s": 1}]


def test_a_figure_is_found_by_case_and_where() -> None:
    entry = {"bench": "b", "case": "one", "where": {"nodes": 2}, "field": "x_s", "label": "x"}
    lines = (
        {"case": "one", "nodes": 1, "x_s": 10},
        {"case": "one", "nodes": 2, "x_s": 20},
        {"case": "two", "nodes": 2, "x_s": 30},
        {"case": "one", "nodes": 2, "y_s": 40},
    )
    assert run.value_of(entry, outcome(*lines)) == 20
    assert run.value_of(entry, outcome(*lines[2:])) is None
    assert run.value_of(entry, {}) is None
    with pytest.raises(ValueError, match="more than one line"):
        run.value_of({**entry, "where": {}}, outcome(*lines))


def test_a_peer_measured_in_the_same_run_is_quoted_beside() -> None:
    entry = {
        "bench": "b",
        "case": "ours",
        "peer_case": "theirs",
        "peer": "nginx",
        "field": "x_s",
        "label": "x",
    }
    both = outcome({"case": "ours", "x_s": 1}, {"case": "theirs", "x_s": 2})
    assert run.quoted({"figure": [entry]}, both)[0]["peer"] == "nginx: 2"
    alone = outcome({"case": "ours", "x_s": 1})
    assert run.quoted({"figure": [entry]}, alone)[0]["peer"] == "nginx: not installed here"


@pytest.mark.parametrize(
    ("limits", "value", "expected"),
    [
        ({"must": 50, "aim": 150}, 49, "MISSED"),
        ({"must": 50, "aim": 150}, 50, "below the aim"),
        ({"must": 50, "aim": 150}, 150, "aim reached"),
        ({"must": 10, "at_most": True}, 10, "reached"),
        ({"must": 10, "aim": 3, "at_most": True}, 11, "MISSED"),
        ({"must": 10, "aim": 3, "at_most": True}, 3, "aim reached"),
        ({}, 1, ""),
        ({"must": 1}, None, "not measured"),
    ],
)
def test_a_value_is_judged_by_its_limits(
    limits: dict[str, object], value: float | None, expected: str
) -> None:
    assert run.verdict(limits, value) == expected


def test_a_bench_that_fails_or_prints_nothing_or_hangs_is_a_failure() -> None:
    assert run.run_bench("does_not_exist", [], 60).failure == "ended with status 1"
    assert run.run_bench("__init__", [], 60).failure == "printed no figure"
    assert "did not end within" in run.run_bench("run", ["--only", "run"], 0.01).failure


SPEC = {"figure": [{"label": "first"}, {"label": "second"}]}


def line(bench: str, label: str, value: int) -> dict[str, object]:
    return {"bench": bench, "label": label, "value": value}


def test_a_bench_run_again_replaces_its_own_figures_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run.save(file, SPEC, [line("b", "second", 2), line("a", "first", 1)], failed=False)
    run.save(file, SPEC, [line("b", "second", 3), line("b", "dropped", 4)], failed=False)
    kept = json.loads(file.read_text())
    assert [(one["label"], one["value"]) for one in kept["figures"]] == [("first", 1), ("second", 3)]
    assert set(kept["commits"]) == {"a", "b"}
    assert all(kept["commits"].values())


def test_what_failed_or_was_measured_elsewhere_is_not_saved(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with pytest.raises(SystemExit, match="a bench failed"):
        run.save(file, SPEC, [line("a", "first", 1)], failed=True)
    assert not file.exists()
    run.save(file, SPEC, [line("a", "first", 1)], failed=False)
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "machine": {"cpu": "another"}}))
    with pytest.raises(SystemExit, match="another machine"):
        run.save(file, SPEC, [line("b", "second", 2)], failed=False)
    run.save(file, SPEC, [line("a", "first", 5)], failed=False)  # all of it is measured anew
    assert json.loads(file.read_text())["figures"][0]["value"] == 5


def test_every_bench_is_run_or_explained() -> None:
    spec = run.read_spec(HERE)
    files = {source.path.removeprefix("bench/").removesuffix(".py") for source in python("bench")} - {
        "__init__"
    }
    named = set(spec["bench"]) | set(spec["support"])
    assert files == named, "name each file of bench/ in figures.toml: under [bench.<name>] or in [support]"
    assert {figure["bench"] for figure in spec["figure"]} <= set(spec["bench"])
