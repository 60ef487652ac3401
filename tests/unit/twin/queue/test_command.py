"""`penstock twin queue` as a person and a script meet it."""

import json
from pathlib import Path

import pytest

from penstock.twin.command import run
from penstock.twin.queue.policies import POLICIES

FIELDS = {"mean_wait_h", "median_wait_h", "p99_wait_h", "mean_wait_h_ge8", "makespan_d", "utilisation_pct"}


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.csv"
    lines = [
        f"{40 * n},{900 if n % 5 else 20_000},{(1, 1, 2, 8, 16)[n % 5]},{'abc'[n % 3]}" for n in range(60)
    ]
    path.write_text("submit_s,duration_s,num_gpus,vc\n" + "\n".join(lines) + "\n")
    return path


def queue(jobs: Path, *more: str) -> int:
    return run(["queue", "--jobs", str(jobs), "--nodes", "3", "--gpus-per-node", "8", *more])


def test_json_has_the_figures_of_each_policy(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert queue(jobs, "--policy", ",".join(POLICIES), "--json") == 2, "16 + 8 + ... do not fit a split"
    assert "static split needs" in capsys.readouterr().err
    names = [name for name in POLICIES if name != "static-split"]
    assert queue(jobs, "--policy", ",".join(names), "--json") == 0
    printed = capsys.readouterr().out
    results = json.loads(printed)["results"]
    assert [result["policy"] for result in results] == names
    for result in results:
        assert result.keys() >= FIELDS
        assert all(result[field] >= 0 for field in FIELDS)
        assert 0 < result["utilisation_pct"] <= 100
    assert queue(jobs, "--policy", ",".join(names), "--json") == 0
    assert capsys.readouterr().out == printed, "the same input gives the same bytes"


def test_the_table_is_for_people(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert queue(jobs, "--policy", "fifo,penstock", "--from-s", "40", "--until-s", "2000") == 0
    printed = capsys.readouterr().out
    assert "49 jobs on 24 GPUs" in printed
    assert "penstock" in printed
    assert "mean h" in printed


def test_knobs_reach_the_policy(jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shares = tmp_path / "shares.csv"
    shares.write_text("queue,guaranteed_gpus,limit_gpus\na,8,16\nb,0,16\nc,16,\n")

    def penstock(*more: str) -> dict[str, float]:
        assert queue(jobs, "--policy", "penstock", "--json", *more) == 0
        return json.loads(capsys.readouterr().out)["results"][0]

    free = penstock()
    assert penstock("--quotas", str(shares)) != free, "b is guaranteed nothing"
    assert penstock("--checkpoint-s", "0")["lost_gpu_h"] != free["lost_gpu_h"]
    assert penstock("--resume-s", "900") != free
    assert penstock("--reclaim-bound-s", "1") != free


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--policy", "lifo"), "no policy 'lifo'; there are fifo, easy"),
        (("--policy", "fifo", "--nodes", "0"), "0 is not 1 to"),
        (("--policy", "fifo", "--nodes", "x"), "invalid"),
        (("--policy", "fifo", "--checkpoint-s", "-1"), "-1 is not 0 to"),
        ((), "required: --policy"),
    ],
)
def test_a_wrong_command_line_is_refused(
    jobs: Path, more: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        queue(jobs, *more)
    assert stop.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--nodes", "1"), "line 6: a gang of 16 GPUs never fits the cluster, which has 8"),
        (("--from-s", "9", "--until-s", "9"), "--from-s must be before --until-s"),
        (("--jobs", "/nowhere/jobs.csv"), "give a file that can be read"),
    ],
)
def test_wrong_input_is_one_sentence(
    jobs: Path, more: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert queue(jobs, "--policy", "fifo", *more) == 2
    assert says in capsys.readouterr().err


def test_shares_that_promise_too_much_or_never_hold_a_gang_are_refused(
    jobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = tmp_path / "shares.csv"
    for text, says in (
        ("a,13,\nb,12,\n", "25 GPUs are guaranteed below the cluster"),
        ("a,0,4\n", "may never use"),
    ):
        shares.write_text("queue,guaranteed_gpus,limit_gpus\n" + text)
        assert queue(jobs, "--policy", "penstock", "--quotas", str(shares)) == 2
        assert says in capsys.readouterr().err
