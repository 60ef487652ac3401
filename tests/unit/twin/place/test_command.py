"""`penstock twin place` as a person or a script meets it."""

import json
from pathlib import Path

import pytest

from penstock.twin.command import run
from penstock.twin.place import command
from penstock.twin.place.arrivals import Arrivals
from penstock.twin.place.replay import Outcome, Setting, Study, replay

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"n{n},64000,262144,4,A\n" for n in range(4))
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n" + "".join(
    f"p{n},4000,1000,1,{(470, 1000)[n % 2]},\n" for n in range(10)
)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv").write_text(PODS)
    return ["place", "--nodes", str(tmp_path / "nodes.csv"), "--pods", str(tmp_path / "pods.csv")]


def test_results_are_one_document(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*files, "--policy", "fgd,penstock", "--seeds", "2", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(one["policy"], one["seed"]) for one in results] == [
        ("fgd", 42),
        ("penstock", 42),
        ("fgd", 43),
        ("penstock", 43),
    ]
    assert all(one["mode"] == "one-shot" and one["migrations"] == 0 for one in results)


def test_without_json_there_is_a_table(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*files, "--mode", "defragment", "--copies", "2", "--first-seed", "7"]) == 0
    shown = capsys.readouterr().out
    assert "penstock" in shown
    assert "130 %" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policy", "magic"], "there is no policy 'magic'; the policies are random, first-fit"),
        (["--policy", "fgd,fgd"], "name each policy once"),
        (["--policy", ","], "at least one"),
        (["--seeds", "0"], "--seeds must be from 1"),
        (["--copies", "999"], "--copies must be from 1"),
        (["--first-seed", "-1"], "--first-seed"),
        (["--mix-sample", "0"], "--mix-sample must be from 1"),
        (["--power-weight", "11"], "--power-weight must be from 0 to 10"),
        (["--power-weight", "1"], "power: nothing known about A"),
        (["--budget", "room=3"], "power: nothing known about A"),
        (["--nodes-per-rack", "0"], "--nodes-per-rack must be from 1"),
        (["--pods", "nowhere.csv"], "nowhere.csv: No such file"),
    ],
)
def test_bad_input_is_one_line(
    files: list[str], options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*files, *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("budget", ["room=3", "site", "site=-1", "site=nan", "site=x"])
def test_a_wrong_budget_is_refused(files: list[str], budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[2]).write_text(NODES.replace(",A", ",T4"))
    assert run([*files, "--budget", budget]) == 2
    assert f"--budget '{budget}'" in capsys.readouterr().err


def test_power_is_told_and_budgets_hold(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[2]).write_text(NODES.replace(",A", ",P100"))
    assert (
        run([*files, "--json", "--power-weight", "0.1", "--budget", "site=2.5", "--budget", "rack=1.5"]) == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["power_assumed_for"] == ["P100"]
    (one,) = document["results"]
    assert 1.0 < one["power"]["kw_100"] <= 2.5
    assert one["alloc_pct_130"] < 80
    assert one["power"]["kw_mean"] < one["power"]["kw_mean_always_on"]


def test_the_policies_may_know_less_than_the_list(
    files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known: list[Study] = []

    def spy(setting: Setting, study: Study, coming: Arrivals) -> Outcome:
        known.append(study)
        return replay(setting, study, coming)

    monkeypatch.setattr(command, "replay", spy)
    assert run([*files, "--json"]) == 0
    assert run([*files, "--json", "--mix-sample", "1"]) == 0
    assert [sorted(study.mix.weights.tolist()) for study in known] == [[0.5, 0.5], [0.0, 1.0]]
    assert capsys.readouterr().out.count("alloc_pct_130") == 2


def test_a_wrong_line_is_named(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[-1]).write_text(PODS.replace("p3,4000", "p3,-4000"))
    assert run(files) == 2
    assert "line 5: cpu_milli is '-4000'" in capsys.readouterr().err
