"""The event loop: nothing is lost, nothing waits for ever in silence."""

import pytest
from hypothesis import given

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Cluster, Decisions, FairShare, Fifo, Gang, Rules, Share
from penstock.twin.queue.replay import Job, replay
from tests.support.gangs import months

RULES = Rules(patience_s=20, bound_s=50, move_after_s=30, fresh_s=5, resume_s=3, rest_s=60)


@given(months((1, 2, 4, 8)))
def test_every_second_held_is_work_or_lost(jobs: list[Job]) -> None:
    outcome = replay(jobs, FairShare(Cluster(3, 4), (Share("a", 4), Share("b", 8)), RULES))
    worked = [0] * len(jobs)
    for stay in outcome.stays:
        assert 0 <= stay.lost_s <= stay.end_s - stay.start_s
        worked[stay.job_id] += stay.end_s - stay.start_s - stay.lost_s
    assert worked == [job.duration_s for job in jobs]
    assert outcome.stops == len(outcome.stays) - len(jobs)


def test_ends_come_before_arrivals_of_the_same_second() -> None:
    jobs = [Job(Gang(0, "a", 1, 0), 10), Job(Gang(1, "a", 1, 10), 5)]
    assert replay(jobs, Fifo(Cluster(1, 1))).end_s == [10, 15]


def test_a_job_that_nobody_ever_starts_is_said() -> None:
    class Idle(Fifo):
        def decide(self, now_s: int) -> Decisions:
            del now_s
            return Decisions()

    with pytest.raises(InvalidInputError, match="1 jobs would wait for ever"):
        replay([Job(Gang(0, "a", 1, 0), 10)], Idle(Cluster(1, 1)))
