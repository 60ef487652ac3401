"""Figures of a replay that can be worked out by hand."""

import pytest

from penstock.scheduler.queueing import Cluster, Fifo, Gang
from penstock.twin.queue.measure import measure, percentile
from penstock.twin.queue.replay import Job, Outcome, Stay, replay

HOUR = 3_600
JOBS = [
    Job(Gang(0, "a", 8, 0), 2 * HOUR),
    Job(Gang(1, "a", 1, HOUR), HOUR),
    Job(Gang(2, "a", 4, 4 * HOUR), HOUR),
]


def test_the_figures_of_three_jobs_on_one_node() -> None:
    result = measure("fifo", [replay(JOBS, Fifo(Cluster(1, 8)))])
    assert (result.jobs, result.gpus, result.window_h) == (3, 8, 4)
    assert (result.mean_wait_h, result.median_wait_h, result.p99_wait_h) == (round(1 / 3, 4), 0, 1)
    assert result.mean_wait_h_ge8 == 0
    assert result.makespan_d == round(5 / 24, 4)
    assert result.utilisation_pct == pytest.approx(100 * (16 + 1) / 32)
    assert result.utilisation_to_makespan_pct == pytest.approx(100 * 21 / 40)
    assert result.broken_pct == pytest.approx(100 * 7 / 32), "7 of 8 lie broken for one of four hours"
    assert result.series.utilisation_pct == (100, 100, 12.5, 0, 50)
    assert [(size.gpus, size.jobs, size.mean_wait_h) for size in result.waits_by_size] == [
        ("1", 1, 1),
        ("4-7", 1, 0),
        ("8-15", 1, 0),
    ]


def test_without_a_large_gang_there_is_no_mean_of_them() -> None:
    assert (
        measure("fifo", [replay([Job(Gang(0, "a", 7, 0), 9)], Fifo(Cluster(1, 8)))]).mean_wait_h_ge8 is None
    )


def test_what_a_stop_lost_is_wait_and_no_use() -> None:
    jobs = [Job(Gang(0, "a", 1, 0), 2 * HOUR), Job(Gang(1, "a", 1, 4 * HOUR), 0)]
    stays = [
        Stay(0, 1, 0, HOUR, HOUR // 2),
        Stay(0, 1, 2 * HOUR, 4 * HOUR, HOUR // 2),
        Stay(1, 1, 4 * HOUR, 4 * HOUR, 0),
    ]
    result = measure("x", [Outcome(1, jobs, [4 * HOUR, 4 * HOUR], stays, stops=1)])
    assert result.mean_wait_h == 1, "two hours late, over two jobs"
    assert (result.utilisation_pct, result.lost_gpu_h, result.useful_gpu_h, result.stops) == (50, 1, 2, 1)


def test_parts_side_by_side_are_one_cluster() -> None:
    whole = measure(
        "split",
        [
            replay(JOBS[:2], Fifo(Cluster(1, 8))),
            replay([Job(Gang(0, "b", 8, 0), 4 * HOUR)], Fifo(Cluster(3, 8))),
        ],
    )
    assert (whole.gpus, whole.jobs) == (32, 3)
    assert whole.utilisation_pct == pytest.approx(100 * (8 + 8) / 32)


def test_the_nearest_rank() -> None:
    assert [percentile([1, 2, 3, 4], percent) for percent in (0, 25, 50, 51, 99, 100)] == [1, 1, 2, 3, 4, 4]
    assert percentile([], 50) == 0
