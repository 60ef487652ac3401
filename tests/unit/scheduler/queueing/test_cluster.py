"""Where gangs lie, and what stopping one loses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Cluster, Run
from tests.support.gangs import gang


def filled(free: list[int], per_node: int = 4) -> Cluster:
    """Return a cluster with ``free`` GPUs on its nodes, the rest held by gangs of one."""
    cluster = Cluster(len(free), per_node)
    job_id = 100
    for node, left in enumerate(free):
        for _ in range(per_node - left):
            cluster.start(Run(gang(job_id), 0, 1, ((node, 1),)))
            job_id += 1
    return cluster


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 20), st.integers(0, 63))
def test_a_place_is_found_exactly_if_the_shape_is_free_and_it_is_the_tightest(
    free: list[int], gpus: int, avoid: int
) -> None:
    cluster = filled(free)
    whole, rest = divmod(gpus, 4)
    usable = [left for node, left in enumerate(free) if not avoid >> node & 1]
    fits = usable.count(4) >= whole
    if fits and rest:
        others = sorted(usable)[: len(usable) - whole]
        fits = any(left >= rest for left in others)
    parts = cluster.find(gpus, avoid)
    assert (parts is not None) == fits
    if parts is None:
        return
    assert sum(part for _, part in parts) == gpus
    assert [part for _, part in parts] == [4] * whole + [rest] * (rest > 0)
    assert all(part <= free[node] and not avoid >> node & 1 for node, part in parts)
    if rest and not whole:
        assert free[parts[0][0]] == min(left for left in usable if left >= rest)
    cluster.start(Run(gang(1, gpus), 0, 1, parts))
    assert cluster.free == sum(free) - gpus
    cluster.stop(1)
    assert cluster.free_on == free
    assert [bits.bit_count() for bits in cluster.level] == [free.count(left) for left in range(5)]


def test_what_is_not_free_is_not_given() -> None:
    cluster = filled([1, 4])
    with pytest.raises(ValueError, match="not that many"):
        cluster.start(Run(gang(1, 2), 0, 1, ((0, 2),)))
    with pytest.raises(ValueError, match="not the gang"):
        cluster.start(Run(gang(1, 2), 0, 1, ((1, 3),)))
    cluster.start(Run(gang(1, 2), 0, 1, ((1, 2),)))
    with pytest.raises(ValueError, match="runs already"):
        cluster.start(Run(gang(1, 2), 0, 1, ((1, 2),)))
    assert (cluster.free, cluster.free_on) == (3, [1, 2])
    with pytest.raises(KeyError):
        cluster.stop(2)


def test_stranded_is_what_a_gang_cannot_use_as_it_lies() -> None:
    cluster = filled([1, 2, 4, 0, 3])
    assert cluster.stranded(1) == 0
    assert cluster.stranded(3) == 1 + 2
    assert cluster.stranded(4) == 1 + 2 + 3


@pytest.mark.parametrize(("nodes", "per_node"), [(0, 8), (1, 0), (-1, 8)])
def test_a_cluster_has_something(nodes: int, per_node: int) -> None:
    with pytest.raises(InvalidInputError):
        Cluster(nodes, per_node)


@pytest.mark.parametrize(
    ("now_s", "worked_s", "unsaved_s", "saved_s"),
    [(100, 0, 0, 50), (110, 0, 0, 50), (115, 5, 5, 50), (130, 20, 0, 70), (149, 39, 19, 70)],
)
def test_what_a_checkpoint_holds(now_s: int, worked_s: int, unsaved_s: int, saved_s: int) -> None:
    run = Run(gang(1, checkpoint_s=20), 100, 500, ((0, 1),), resume_s=10, done_s=50)
    assert (run.worked_s(now_s), run.unsaved_s(now_s), run.saved_s(now_s)) == (worked_s, unsaved_s, saved_s)
    assert run.expected_end_s == 600


def test_work_without_checkpoints_is_lost_as_a_whole() -> None:
    run = Run(gang(1, checkpoint_s=0), 100, 500, ((0, 1),))
    assert (run.unsaved_s(1_100), run.saved_s(1_100)) == (1_000, 0)
