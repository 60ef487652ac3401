"""The command prints what it found, and says in one line what it cannot simulate."""

import json

import pytest

from penstock.twin.command import run

SMALL = [
    "topology",
    "--racks",
    "4",
    "--nodes-per-rack",
    "2",
    "--seeds",
    "1",
    "--hours",
    "12",
    "--warmup-hours",
    "2",
]
MIX = ["--mix", "1:4,4:1,8:1,16:1", "--loads", "1.2"]


def test_json_has_every_study_policy_and_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, *MIX, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["site"]["simulated"] is True
    assert document["site"]["gpus"] == 32
    assert {line["study"] for line in document["results"]} == {"full", "fill", "singles"}
    assert len(document["results"]) == 3 * 5
    ours = [line for line in document["summary"] if line["policy"] == "penstock" and line["study"] == "full"]
    assert 0 <= ours[0]["occupancy_pct"] <= 100
    assert ours[0]["shape_kept_pct"] == 100


def test_the_table_names_the_site(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, *MIX, "--policy", "blind,penstock", "--study", "fill"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "simulated site: 4 racks of 8, 32 GPUs; mix 1:4,4:1,8:1,16:1"
    assert [line.split()[1] for line in lines[1:]] == ["blind", "penstock"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--mix", "8:x"], "'8:x' is no part of a mix"),
        (["--mix", "33:1"], "sizes from 1 to 32"),
        (["--mix", "0:1"], "sizes from 1 to 32"),
        (["--mix", "8:-1"], "weights above 0"),
        ([*MIX, "--policy", "magic"], "there is no policy 'magic'"),
        ([*MIX, "--study", "none"], "there is no study 'none'"),
        ([*MIX, "--loads", "0"], "a load is a number from 0.05 to 5"),
        ([*MIX, "--loads", "x"], "a load is a number from 0.05 to 5"),
        ([*MIX, "--seeds", "0"], "--seeds is from 1 to 100"),
        ([*MIX, "--racks", "0"], "--racks is from 1"),
        ([*MIX, "--warmup-hours", "12"], "--warmup-hours is from 0"),
        ([*MIX, "--within", "rack"], "an order of 16 is more than one rack of 8 holds"),
    ],
)
def test_what_cannot_be_simulated_is_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert run([*SMALL, *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_orders_of_several_domains_can_be_kept_under_one_leaf(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--within",
        "leaf",
        "--racks-per-leaf",
        "2",
        "--policy",
        "penstock",
        "--study",
        "full",
        "--json",
    ]
    assert run([*SMALL, *MIX, *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["site"]["within"] == "leaf"
