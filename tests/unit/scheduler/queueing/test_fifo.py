"""FIFO keeps the order; EASY lets pass who does not delay the one in front."""

import pytest
from hypothesis import given

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Cluster, Decisions, Easy, Fifo, Gang
from penstock.twin.queue.replay import Job, replay
from tests.support.gangs import Watch, gang, months


@given(months((1, 2, 3, 4, 6, 8, 12)))
def test_fifo_starts_in_order_of_arrival(jobs: list[Job]) -> None:
    watch = Watch(Fifo(Cluster(3, 4)))
    outcome = replay(jobs, watch)
    assert [job_id for _, job_id in watch.started] == list(range(len(jobs)))
    assert all(outcome.wait_s(job_id) >= 0 for job_id in range(len(jobs)))
    assert outcome.stops == 0


@given(months((1, 2, 3, 4, 6, 8, 12)))
def test_easy_never_delays_the_one_in_front(jobs: list[Job]) -> None:
    """On nodes of one GPU the shape is always free: the first in line starts at its shadow time or before."""
    promised: dict[int, int] = {}

    def look(watch: Watch, made: Decisions, now_s: int) -> None:
        for run in made.started:
            assert now_s <= promised.get(run.gang.job_id, now_s)
        if watch.since_s:
            head = min(watch.since_s)
            free = watch.policy.cluster.free
            for end_s, gpus in sorted((run.expected_end_s, run.gang.gpus) for run in watch.running.values()):
                free += gpus
                if free >= watch.gangs[head].gpus:
                    promised.setdefault(head, end_s)
                    break

    watch = Watch(Easy(Cluster(12, 1), lambda one: jobs[one.job_id].duration_s), look)
    outcome = replay(jobs, watch)
    assert all(end_s >= 0 for end_s in outcome.end_s)


def test_easy_lets_the_short_and_the_spare_pass_and_holds_the_long() -> None:
    lasts = {0: 100, 1: 100, 2: 99, 3: 101, 4: 500}
    policy = Easy(Cluster(4, 1), lambda one: lasts[one.job_id])
    sizes = {0: 2, 1: 3, 2: 1, 3: 1, 4: 1}
    policy.arrive(gang(0, sizes[0]), 0)
    policy.decide(0)
    for job_id in (1, 3, 2):
        policy.arrive(gang(job_id, sizes[job_id]), 1)
    started = [run.gang.job_id for run in policy.decide(1).started]
    assert started == [3, 2], "3 outlasts the shadow at 100 but leaves the 3 GPUs; 2 ends in time"
    policy.end(2, 60)
    policy.arrive(gang(4, 1), 60)
    assert policy.decide(60).started == [], "the spare GPU is taken and 4 would not end in time"
    assert policy.waiting == 2


@pytest.mark.parametrize("gpus", [0, -1, 13])
def test_what_never_fits_is_refused(gpus: int) -> None:
    for policy in (Fifo(Cluster(3, 4)), Easy(Cluster(3, 4), lambda _: 1)):
        with pytest.raises(InvalidInputError, match="never fits the cluster, which has 12"):
            policy.arrive(Gang(0, "a", gpus, 0), 0)
        assert policy.waiting == 0
