"""`penstock twin report` from a study to a page."""

import json
from pathlib import Path

import pytest

from penstock.twin.command import run
from tests.support.studies import queue_result


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.json"
    results = [queue_result("easy", 70.0, 1.0), queue_result("penstock", 72.5, 0.2)]
    path.write_text(json.dumps({"results": results}))
    return path


def report(*arguments: object) -> int:
    return run(["report", *map(str, arguments)])


def test_a_page_and_figures(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = tmp_path / "page.html"
    assert (
        report(study, "--a", "easy", "--b", "penstock", "--price", "2.5", "--price", "7", "--html", html) == 0
    )
    printed = capsys.readouterr().out
    assert "+2.50 points at 2.50 EUR/GPU-h: 54,750 EUR a year" in printed
    assert "153,300 EUR a year" in printed
    assert html.read_text().startswith("<!doctype html>")


def test_json(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(study, "--a", "penstock", "--b", "easy", "--price", "0.000001", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["points"] == -2.5
    assert document["values"] == [{"microeur_per_gpu_hour": 1, "microeur_per_year": -21_900}]


def test_a_study_goes_in_as_it_came_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs, out = tmp_path / "jobs.csv", tmp_path / "study.json"
    jobs.write_text("submit_s,duration_s,num_gpus\n0,900,4\n10,900,4\n20,90,2\n30,900,8\n")
    assert run(["queue", "--jobs", str(jobs), "--nodes", "1", "--policy", "fifo,easy", "--json"]) == 0
    out.write_text(capsys.readouterr().out)
    watts = ("--idle-watts", 60, "--load-watts", 400)
    assert report(out, "--a", "fifo", "--b", "easy", "--json", "--html", tmp_path / "p.html", *watts) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["a"], document["b"], document["gpus"]) == ("fifo", "easy", 8)
    assert document["waits"]["names"] == ["2-3", "4-7", "8-15"]
    assert document["energy"]["load_watts"] == 400


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--price", "-1"), "--price is '-1'"),
        (("--price", "much"), "--price is 'much'"),
        (("--price", "nan"), "--price is 'nan'"),
        (("--price", "inf"), "--price is 'inf'"),
        (("--price", "0.0000001"), "at most six decimals"),
        (("--price", "1") * 7, "at most 6 prices"),
        (("--gpus", "0"), "--gpus must be 1 to"),
        (("--idle-watts", "60"), "together"),
        (("--idle-watts", "60", "--load-watts", "50"), "the first at most the second"),
        (("--html", "/nowhere/page.html"), "/nowhere/page.html: "),
    ],
)
def test_wrong_terms_are_one_sentence(
    study: Path, more: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(study, "--a", "easy", "--b", "penstock", *more) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"results": [{"policy": "easy", "utilisation_pct": NaN}]}', "not JSON (NaN is no JSON number)"),
        ("[1]", "has no 'results'"),
        ('{"results": []}', "has no 'results'"),
        ('{"results": [3]}', "not an object with a policy"),
        ('{"results": [{"seed": 3}]}', "not an object with a policy"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_study_is_refused(
    tmp_path: Path, content: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    assert report(path, "--a", "easy", "--b", "penstock") == 2
    assert says in capsys.readouterr().err


def study_output(capsys: pytest.CaptureFixture[str], path: Path, *arguments: object) -> Path:
    """Run a real study, keep what it prints."""
    assert run([str(one) for one in arguments]) == 0
    path.write_text(capsys.readouterr().out)
    return path


def test_what_place_really_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text(
        "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"n{n},96000,393216,8,V100M32\n" for n in range(4))
    )
    pods.write_text(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
        "a,8000,1024,1,1000,\nb,4000,1024,1,460,\nc,32000,1024,4,1000,\nd,4000,1024,1,810,\n"
    )
    options = ("--nodes", nodes, "--pods", pods, "--policy", "fgd,penstock", "--seeds", 2, "--json")
    study = study_output(capsys, tmp_path / "place.json", "place", *options)
    html = tmp_path / "place.html"
    assert report(study, "--a", "fgd", "--b", "penstock", "--gpus", 32, "--price", "2", "--html", html) == 0
    printed = capsys.readouterr().out
    for name in ("Allocation, 130 % arrived", "Fragmentation", "Modelled power, mean over the load"):
        assert name in printed
    assert "Allocation as requests arrive" in html.read_text()


def test_what_topology_really_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--racks",
        8,
        "--policy",
        "blind,penstock",
        "--hours",
        6,
        "--warmup-hours",
        2,
        "--seeds",
        1,
        "--json",
    )
    study = study_output(capsys, tmp_path / "topology.json", "topology", *options)
    html = tmp_path / "topology.html"
    assert report(study, "--a", "blind", "--b", "penstock", "--price", "2", "--html", html) == 0
    assert "Orders of several devices in their shape" in capsys.readouterr().out
    assert "a site of NVLink racks with 576 GPUs" in html.read_text()


def test_what_queue_really_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = tmp_path / "jobs.csv"
    rows = [f"{60 * row},{600 + 97 * (row % 7)},{(1, 2, 4, 8)[row % 4]},v{row % 2}\n" for row in range(60)]
    jobs.write_text("submit_s,duration_s,num_gpus,vc\n" + "".join(rows))
    options = ("--jobs", jobs, "--nodes", 2, "--gpus-per-node", 8, "--policy", "easy,penstock", "--json")
    study = study_output(capsys, tmp_path / "queue.json", "queue", *options)
    html = tmp_path / "queue.html"
    assert report(study, "--a", "easy", "--b", "penstock", "--price", "2", "--html", html) == 0
    assert "Mean wait" in capsys.readouterr().out
    assert "Mean wait by size of the gang" in html.read_text()


def test_what_steer_prints_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "steer.json"
    path.write_text(json.dumps({"results": [{"policy": "first-fit", "premium_gpu_hours": 1.0}]}))
    assert report(path, "--a", "first-fit", "--b", "first-fit") != 0
    assert "'twin steer' compares by itself" in capsys.readouterr().err
