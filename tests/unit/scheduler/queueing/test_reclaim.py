"""Plans of reclaim and of moves: who, where to, and that planning changes nothing."""

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from penstock.scheduler.queueing import Cluster, Quotas, Run, Share
from penstock.scheduler.queueing.reclaim import plan_move, plan_reclaim
from tests.support.gangs import gang

SHARES = (Share("a", 4), Share("b", 8), Share("b/x", 6, 6), Share("b/y", 2))
rows = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(("a", "b/x", "b/y", "c"))), max_size=12)


def busy(gangs: list[tuple[int, str]]) -> tuple[Cluster, Quotas]:
    """Return 3 nodes of 4 with those of ``gangs`` that fit and may run."""
    cluster, quotas = Cluster(3, 4), Quotas(12, SHARES)
    for job_id, (gpus, queue) in enumerate(gangs):
        parts = cluster.find(gpus)
        if parts is not None and gpus <= quotas.room(queue):
            cluster.start(Run(gang(job_id, gpus, queue), 0, 1, parts))
            quotas.charge(queue, gpus)
    return cluster, quotas


def state(cluster: Cluster, quotas: Quotas) -> object:
    return deepcopy((cluster.running, cluster.free_on, cluster.level, cluster.free, quotas.usage()))


@given(rows, st.integers(1, 8), st.sampled_from(("a", "b/x", "b/y")))
def test_a_reclaim_takes_borrowers_in_turn_and_leaves_room(
    gangs: list[tuple[int, str]], gpus: int, queue: str
) -> None:
    cluster, quotas = busy(gangs)
    before = state(cluster, quotas)
    plan = plan_reclaim(cluster, quotas, gang(99, gpus, queue), lambda run: run.gang.gpus)
    assert state(cluster, quotas) == before
    if plan is None:
        return
    for job_id in plan.victims:
        victim = cluster.running[job_id].gang
        tenant = victim.queue.partition("/")[0]
        within_b = tenant == queue.partition("/")[0]
        assert quotas.used(victim.queue) > quotas.guaranteed(victim.queue)
        assert within_b or quotas.used(tenant) > quotas.guaranteed(tenant)
        cluster.stop(job_id)
        quotas.charge(victim.queue, -victim.gpus)
    quotas.charge(queue, gpus)
    cluster.start(Run(gang(99, gpus, queue), 0, 1, plan.parts))


@given(rows, st.integers(1, 8))
def test_a_move_finds_everybody_a_place(gangs: list[tuple[int, str]], gpus: int) -> None:
    cluster, quotas = busy(gangs)
    before = state(cluster, quotas)
    planned = plan_move(cluster, gang(99, gpus), lambda run: run.gang.gpus, 5)
    assert state(cluster, quotas) == before
    if planned is None:
        return
    eviction, moves = planned
    assert {mover.job_id for mover, _ in moves} == set(eviction.victims)
    assert all(mover.gpus < 4 for mover, _ in moves)
    for job_id in eviction.victims:
        cluster.stop(job_id)
    cluster.start(Run(gang(99, gpus), 5, 1, eviction.parts))
    for mover, parts in moves:
        cluster.start(Run(mover, 5, 1, parts))


def test_nobody_is_moved_into_nothing_and_whole_nodes_stay() -> None:
    cluster, _ = busy([(3, "c"), (3, "c"), (4, "c")])
    assert plan_move(cluster, gang(99, 4), lambda _: 1, 5) is None, "two are free, the movers need three"
    cluster, _ = busy([(2, "c"), (3, "c"), (4, "c")])
    assert plan_move(cluster, gang(99, 2), lambda _: 1, 5) is not None, "it fits as it is"
    assert plan_move(cluster, gang(99, 8), lambda _: 1, 5) is None


def test_the_price_may_forbid() -> None:
    cluster, quotas = busy([(4, "c"), (4, "c"), (4, "c")])
    assert plan_reclaim(cluster, quotas, gang(99, 1, "a"), lambda _: None) is None
    plan = plan_reclaim(cluster, quotas, gang(99, 1, "a"), lambda run: (9, 3, 5)[run.gang.job_id])
    assert plan is not None
    assert plan.victims == (1,)


def test_a_gang_within_its_share_goes_past_a_limit_its_sibling_filled() -> None:
    cluster, quotas = Cluster(3, 4), Quotas(12, (Share("b", 8, 8), Share("b/x", 6), Share("b/y", 2)))
    for job_id in range(2):
        cluster.start(Run(gang(job_id, 4, "b/y"), 0, 1, ((job_id, 4),)))
        quotas.charge("b/y", 4)
    plan = plan_reclaim(cluster, quotas, gang(99, 4, "b/x"), lambda run: 2 - run.gang.job_id)
    assert plan is not None
    assert plan.victims == (1,), "a node is free, but the tenant's limit is not"
