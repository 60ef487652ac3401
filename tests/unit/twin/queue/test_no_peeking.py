"""A policy that is told nothing decides the same whatever the future holds."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.scheduler.queueing import Cluster, FairShare, Fifo, Policy, PredictedShortest, Rules, Share
from penstock.twin.queue.replay import Job, replay
from tests.support.gangs import Watch, months

RULES = Rules(patience_s=20, bound_s=50, move_after_s=30, fresh_s=5, resume_s=3, rest_s=60)
MAKERS: dict[str, Callable[[], Policy]] = {
    "fifo": lambda: Fifo(Cluster(3, 4)),
    "predicted-shortest": lambda: PredictedShortest(Cluster(3, 4)),
    "penstock": lambda: FairShare(Cluster(3, 4), (Share("a", 4), Share("b", 8)), RULES),
}


@pytest.mark.parametrize("name", MAKERS)
@given(jobs=months((1, 2, 4, 8)), until_s=st.integers(0, 1_500), longer_s=st.integers(1, 5_000))
def test_durations_that_nobody_has_seen_yet_change_nothing(
    name: str, jobs: list[Job], until_s: int, longer_s: int
) -> None:
    watch = Watch(MAKERS[name]())
    outcome = replay(jobs, watch)
    other_future = [
        Job(job.gang, job.duration_s + longer_s) if outcome.end_s[job.gang.job_id] > until_s else job
        for job in jobs
    ]
    again = Watch(MAKERS[name]())
    replay(other_future, again)
    assert [one for one in watch.started if one[0] <= until_s] == [
        one for one in again.started if one[0] <= until_s
    ]
