"""Who is expected to be done soonest starts first."""

from hypothesis import given

from penstock.scheduler.queueing import Cluster, PredictedShortest
from penstock.twin.queue.replay import Job, replay
from tests.support.gangs import Watch, gang, months


def test_the_order_is_learnt() -> None:
    policy = PredictedShortest(Cluster(1, 1))
    at_s = 0
    for job_id, (queue, lasts_s) in enumerate([("slow", 900), ("quick", 10)] * 3):
        policy.arrive(gang(job_id, queue=queue), at_s)
        policy.decide(at_s)
        at_s += lasts_s
        policy.end(job_id, at_s)
    for job_id, queue in ((10, "busy"), (11, "slow"), (12, "quick")):
        policy.arrive(gang(job_id, queue=queue), at_s)
    order: list[int] = []
    while policy.waiting:
        (run,) = policy.decide(at_s).started
        order.append(run.gang.job_id)
        policy.end(run.gang.job_id, at_s)
    assert order[0] == 12
    assert order[-1] == 11


@given(months((1, 2, 3, 4, 6, 8, 12)))
def test_everybody_runs_and_nobody_waits_beside_a_free_place(jobs: list[Job]) -> None:
    def look(watch: Watch, *_: object) -> None:
        sizes = {watch.gangs[job_id].gpus for job_id in watch.since_s}
        assert all(watch.policy.cluster.find(gpus) is None for gpus in sizes)

    watch = Watch(PredictedShortest(Cluster(3, 4)), look)
    replay(jobs, watch)
    assert len(watch.started) == len(jobs)
