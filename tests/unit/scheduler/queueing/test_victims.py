"""The cheapest set whose end frees the shape, compared with trying every set."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from penstock.scheduler.queueing import Cluster, Run
from penstock.scheduler.queueing.victims import cheapest_eviction
from tests.support.gangs import gang

PER_NODE = 4
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=8)
costs = st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=8, max_size=8)


def crowded(nodes: int, gangs: list[int]) -> Cluster:
    """Return a cluster with those of ``gangs`` that fit, as best fit places them."""
    cluster = Cluster(nodes, PER_NODE)
    for job_id, gpus in enumerate(gangs):
        parts = cluster.find(gpus)
        if parts is not None:
            cluster.start(Run(gang(job_id, gpus), 0, 1, parts))
    return cluster


def fits_without(cluster: Cluster, victims: tuple[int, ...], gpus: int) -> bool:
    """Stop ``victims``, look, and start them again."""
    runs = [cluster.stop(job_id) for job_id in victims]
    fits = cluster.find(gpus) is not None
    for run in runs:
        cluster.start(run)
    return fits


@given(st.integers(1, 3), sizes, costs, st.integers(1, 12))
def test_whoever_can_be_freed_is_found_and_on_one_node_nothing_is_cheaper(
    nodes: int, gangs: list[int], prices: list[int | None], gpus: int
) -> None:
    cluster = crowded(nodes, gangs)
    stoppable = [job_id for job_id in cluster.running if prices[job_id] is not None]
    sets = [some for size in range(len(stoppable) + 1) for some in combinations(stoppable, size)]
    enough = [sum(prices[v] or 0 for v in some) for some in sets if fits_without(cluster, some, gpus)]
    found = cheapest_eviction(cluster, gpus, lambda run: prices[run.gang.job_id])
    assert (found is not None) == bool(enough)
    if found is None:
        return
    assert found.cost == sum(prices[job_id] or 0 for job_id in found.victims)
    assert all(prices[job_id] is not None for job_id in found.victims)
    if gpus <= PER_NODE and all(len(run.parts) == 1 for run in cluster.running.values()):
        assert found.cost == min(enough)
    for job_id in found.victims:
        cluster.stop(job_id)
    cluster.start(Run(gang(99, gpus), 0, 1, found.parts))  # refuses what is not free


def test_a_large_gang_frees_whole_nodes_not_scattered_gpus() -> None:
    cluster = Cluster(4, PER_NODE)
    for job_id in range(16):
        cluster.start(Run(gang(job_id, 1), 0, 1, ((job_id % 4, 1),)))
    price = {job_id: 1 + job_id % 4 for job_id in range(16)}  # node 0 is the cheapest, then 1
    found = cheapest_eviction(cluster, 8, lambda run: price[run.gang.job_id])
    assert found is not None
    assert {job_id % 4 for job_id in found.victims} == {0, 1}
    assert len(found.victims) == 8
    assert found.parts == ((0, 4), (1, 4))


def test_a_victim_on_two_nodes_is_paid_once_and_who_goes_anyway_costs_nothing_more() -> None:
    cluster = Cluster(3, PER_NODE)
    cluster.start(Run(gang(0, 8), 0, 1, ((0, 4), (1, 4))))
    cluster.start(Run(gang(1, 4), 0, 1, ((2, 4),)))
    found = cheapest_eviction(cluster, 8, lambda run: (10, 7)[run.gang.job_id])
    assert found is not None
    assert set(found.victims) == {0, 1}, "greedy: the cheap node first, then the gang on two"
    again = cheapest_eviction(cluster, 8, lambda run: (10, 7)[run.gang.job_id], already=(0,))
    assert again is not None
    assert (again.victims, again.cost) == ((0,), 10)


def test_nobody_is_stopped_where_it_fits_already() -> None:
    cluster = crowded(2, [1, 1])
    found = cheapest_eviction(cluster, 6, lambda _: 1)
    assert found is not None
    assert found.victims == ()
