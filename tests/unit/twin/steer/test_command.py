"""The command says what was saved, and in one line with its number what it cannot read."""

import gzip
import json
from pathlib import Path

import pytest

from penstock.twin.command import run

HEAD = "gpu_model,gpu_capacity_num,cpu_num,node_name\n"
NODES = HEAD + "".join(f"H800,8,192,{n}\nA10,1,32,{n}\nseries,2,32,{n}\n" for n in range(4))
QUICK = ["--hours", "12", "--warmup-hours", "2", "--load", "0.5"]


def written(folder: Path, text: str, name: str = "nodes.csv") -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


@pytest.mark.parametrize("name", ["nodes.csv", "nodes.csv.gz"])
def test_json_has_both_policies_and_what_was_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments = ["steer", "--nodes", written(tmp_path, NODES, name), *QUICK, "--seeds", "2", "--json"]
    assert run(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["fleet"]["gpus_by_class"] == {"H800": 32, "A10": 4}
    assert document["fleet"]["left_out_gpus"] == {"series": 8}
    assert [(line["policy"], line["seed"]) for line in document["results"]] == [
        ("first-fit", 1),
        ("penstock", 1),
        ("first-fit", 2),
        ("penstock", 2),
    ]
    assert document["summary"]["premium_gpu_hours_saved"] > 0


def test_a_model_is_added_by_a_file_and_a_trace_gives_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = "\n".join(
        f"[{name}]\nmemory_gib = {memory}\nbf16_tflops = {speed}\ninterconnect_gb_per_s = 400\npower_watts = 1\n"
        f"microeur_per_gpu_hour = {speed}\npremium = {'true' if speed > 500 else 'false'}\n"
        for name, memory, speed in (("series", 80, 300), ("H800", 80, 989))
    )
    jobs = "submit_s,duration_s,num_gpus,vc\n0,3600,1,a\n5,7200,2,b\n9,0,0,b\n"
    arguments = [
        "--classes",
        written(tmp_path, classes, "c.toml"),
        "--jobs",
        written(tmp_path, jobs, "j.csv"),
    ]
    assert run(["steer", "--nodes", written(tmp_path, NODES), *QUICK, *arguments]) == 0
    assert "left_out_gpus                   {'A10': 4}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model,gpus\n", "line 1: the columns are gpu_model,gpu_capacity_num"),
        (HEAD + "H800,8,192,1\nH800,-8,192,2\n", "line 3: gpu_capacity_num is from 1 to 72, not '-8'"),
        (HEAD + "H800,x,192,1\n", "line 2: gpu_capacity_num"),
        (HEAD + "H800,8\n", "line 2: a row has 4 values"),
        (HEAD + "H800,8,192,1,surplus\n", "line 2: a row has 4 values"),
        (HEAD, "no node of a class with facts"),
        (HEAD + "series,8,192,1\n", "no node of a class with facts"),
    ],
)
def test_a_list_that_cannot_be_read_is_said_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    assert run(["steer", "--nodes", written(tmp_path, text), *QUICK]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--needs", "light:1:2"], "'light:1:2' is no profile"),
        (["--needs", "light:0:16:0:0:0"], "is no profile"),
        (["--load", "9"], "--load is from 0.05 to 3"),
        (["--seeds", "0"], "--seeds is from 1 to 100"),
        (["--warmup-hours", "12"], "--warmup-hours is from 0"),
        (["--nodes", "absent.csv"], "absent.csv: No such file"),
    ],
)
def test_what_cannot_be_simulated_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert run(["steer", "--nodes", written(tmp_path, NODES), *QUICK, *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "option", "sentence"),
    [
        ("j.csv", "submit_s,duration_s,num_gpus,vc\n0,x,1,a\n", "--jobs", "line 2: num_gpus and duration_s"),
        ("j.csv", "submit_s,duration_s,num_gpus,vc\n0,5,0,a\n", "--jobs", "there is no job with GPUs"),
        ("c.toml", "[H800]\nmemory_gib = 80\n", "--classes", "every class has memory_gib, bf16_tflops"),
        ("c.toml", "[H800]\nmemory_gib = -1\n", "--classes", "class 'H800': memory_gib is a whole number"),
        ("c.toml", "nonsense", "--classes", "every class has"),
    ],
)
def test_other_files_are_judged_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, option: str, sentence: str
) -> None:
    arguments = ["steer", "--nodes", written(tmp_path, NODES), *QUICK, option, written(tmp_path, text, name)]
    assert run(arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_broken_archive_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nodes.csv.gz"
    path.write_bytes(b"no archive")
    assert run(["steer", "--nodes", str(path), *QUICK]) == 2
    assert "is no table" in capsys.readouterr().err
