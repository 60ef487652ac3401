"""Everybody has a reservation, and it is kept."""

from hypothesis import given

from penstock.scheduler.queueing import Cluster, Conservative
from penstock.twin.queue.replay import Job, replay
from tests.support.gangs import Watch, gang, months


@given(months((1, 2, 3, 4, 6, 8, 12)))
def test_nobody_starts_later_than_promised_when_he_came(jobs: list[Job]) -> None:
    """On nodes of one GPU the shape is always free, and exact estimates never shift a reservation."""
    policy = Conservative(Cluster(12, 1), lambda one: jobs[one.job_id].duration_s)
    promised: dict[int, int] = {}
    arrive = policy.arrive

    def promise(one: object, now_s: int) -> None:
        arrive(one, now_s)
        promised.update(
            {job_id: start_s for start_s, _, job_id in policy.reservations() if job_id not in promised}
        )

    policy.arrive = promise
    watch = Watch(policy)
    replay(jobs, watch)
    assert {job_id: now_s for now_s, job_id in watch.started} == promised


@given(months((1, 2, 3, 4, 6, 8, 12)))
def test_everybody_starts_in_his_shape(jobs: list[Job]) -> None:
    watch = Watch(Conservative(Cluster(3, 4), lambda one: jobs[one.job_id].duration_s))
    outcome = replay(jobs, watch)
    assert len(watch.started) == len(jobs)
    assert all(outcome.wait_s(job_id) >= 0 for job_id in range(len(jobs)))


def test_an_early_end_is_used() -> None:
    policy = Conservative(Cluster(2, 1), lambda _: 100)
    for job_id, gpus in ((0, 2), (1, 1)):
        policy.arrive(gang(job_id, gpus), 0)
    assert [run.gang.job_id for run in policy.decide(0).started] == [0]
    assert policy.wake_s == 100
    policy.end(0, 40)
    policy.arrive(gang(2, 1), 40)
    assert [run.gang.job_id for run in policy.decide(40).started] == [2], "1 keeps the time it was promised"
    assert [run.gang.job_id for run in policy.decide(100).started] == [1]
