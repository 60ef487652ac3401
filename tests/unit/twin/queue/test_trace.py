"""Jobs and shares as the study reads them."""

from pathlib import Path

import pytest

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Gang, Share
from penstock.twin.queue.replay import Job
from penstock.twin.queue.trace import read_jobs, read_shares

HEAD = "submit_s,duration_s,num_gpus,vc\n"


def jobs_of(folder: Path, text: str, window_s: tuple[int, int] = (0, 1 << 40)) -> list[Job]:
    path = folder / "jobs.csv"
    path.write_text(text)
    return read_jobs(path, capacity=16, checkpoint_s=60, window_s=window_s)


def test_jobs_are_ordered_numbered_and_cut_to_the_window(tmp_path: Path) -> None:
    text = HEAD + "30,5,1,b\n10,7,16,a/x\n20,0,2,a\n40,1,1,a\n"
    assert jobs_of(tmp_path, text, (10, 40)) == [
        Job(Gang(0, "a/x", 16, 10, 60), 7),
        Job(Gang(1, "a", 2, 20, 60), 0),
        Job(Gang(2, "b", 1, 30, 60), 5),
    ]


def test_a_trace_may_say_when_jobs_save_and_need_not_name_queues(tmp_path: Path) -> None:
    text = "submit_s,duration_s,num_gpus,checkpoint_s\n1,5,1,0\n2,5,1,\n3,5,1,9\n"
    assert [job.gang for job in jobs_of(tmp_path, text)] == [
        Gang(0, "all", 1, 1, 0),
        Gang(1, "all", 1, 2, 60),
        Gang(2, "all", 1, 3, 9),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1,5,17,a", "line 3: a gang of 17 GPUs never fits the cluster, which has 16"),
        ("-1,5,1,a", "line 3: submit_s is -1"),
        ("1,-5,1,a", "line 3: duration_s is -5"),
        ("1,5,0,a", "line 3: num_gpus is 0"),
        ("1,5,-2,a", "line 3: num_gpus is -2"),
        ("1,5,nan,a", "line 3: num_gpus is 'nan', not a whole number"),
        ("1,5,1,", "line 3: queue '' has a level without a name"),
        ("1,5,1,a//b", "line 3: queue 'a//b' has a level without a name"),
        ("1,5,1", "line 3: 3 values for 4 columns"),
    ],
)
def test_a_bad_job_is_refused_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        jobs_of(tmp_path, HEAD + "0,1,1,a\n" + line + "\n")


def test_no_job_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no job was submitted in the time asked for"):
        jobs_of(tmp_path, HEAD + "5,1,1,a\n", (6, 9))


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("vc,nodes\na,2\nb,0\n", [Share("a", 16), Share("b", 0)]),
        ("queue,guaranteed_gpus,limit_gpus\na,2,4\na/x,1,\n", [Share("a", 2, 4), Share("a/x", 1)]),
    ],
)
def test_shares_in_gpus_or_in_nodes(tmp_path: Path, text: str, shares: list[Share]) -> None:
    path = tmp_path / "shares.csv"
    path.write_text(text)
    assert read_shares(path, 8) == shares


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vc,nodes\na,-2\n", "line 2: nodes is -2"),
        ("queue,guaranteed_gpus,limit_gpus\na,4,2\n", "line 2: limit_gpus is 2"),
        ("queue,limit_gpus\na,4\n", "line 2: a share names its queue"),
        ("nodes\n4\n", "line 2: a share names its queue"),
        ("queue,gpus\na,4\n", "line 1: unknown column gpus"),
    ],
)
def test_bad_shares_are_refused_with_their_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "shares.csv"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=says):
        read_shares(path, 8)
