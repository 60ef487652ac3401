"""Guarantees, limits, borrowing, and who may take from whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Quotas, Share, equal_shares, path_of

TREE = (Share("a", 8), Share("b", 8, 12), Share("b/x", 6), Share("b/y", 2, 9))


def quotas(**used: int) -> Quotas:
    """Return the tree of 20 GPUs with what is used; ``b_x`` stands for b/x."""
    tree = Quotas(20, TREE)
    for queue, gpus in used.items():
        tree.charge(queue.replace("_", "/"), gpus)
    return tree


def test_use_counts_at_every_level_and_stops_at_the_limit() -> None:
    tree = quotas(a=5, b_x=3, b_y=4)
    assert (tree.used("b"), tree.used("b/x"), tree.used("a"), tree.used("none")) == (7, 3, 5, 0)
    assert (tree.room("b/y"), tree.room("b/x"), tree.room("a")) == (5, 5, 15)
    with pytest.raises(ValueError, match="do not fit the quota"):
        tree.charge("b/y", 6)
    with pytest.raises(ValueError, match="do not fit the quota"):
        tree.charge("a", -6)
    assert tree.usage()["b"] == (7, 8, 12), "a refused charge changes nothing"
    assert tree.excess("b/y", 6) == [("b", 1), ("b/y", 1)]
    assert (tree.ever("b/y"), tree.ever("b/x"), tree.ever("c/new")) == (9, 12, 20)


def test_a_queue_without_a_share_only_borrows() -> None:
    tree = quotas()
    assert not tree.entitled("c", 1)
    assert tree.room("c/deep") == 20
    tree.charge("c/deep", 3)
    assert tree.used("c") == 3


def test_within_the_own_guarantee_or_the_tenants() -> None:
    tree = quotas(b_x=5, b_y=2)
    assert tree.entitled("b/x", 1)
    assert tree.entitled("b/y", 1), "its tenant has one left"
    assert not tree.entitled("b/y", 2)


def test_taken_is_only_from_who_is_above_at_every_level_where_branches_part() -> None:
    tree = quotas(a=6, b_x=4, b_y=5)
    assert tree.may_take("a", 2, "b/y")
    assert not tree.may_take("a", 3, "b/y"), "a would be above its own guarantee"
    assert not tree.may_take("a", 2, "b/x"), "b is above its guarantee, but not because of x"
    assert not tree.may_take("b/x", 1, "a"), "a is within its guarantee"
    assert tree.may_take("b/x", 2, "b/y"), "inside b it is between the projects"
    assert not tree.may_take("b/x", 3, "b/y")
    assert not tree.may_take("a", 1, "a")
    assert not tree.may_take("b", 1, "b/y"), "one inside the other: no guarantee is between them"


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ((Share("a", 12), Share("b", 9)), "the cluster, which has 20"),
        ((Share("a", 4), Share("a/x", 3), Share("a/y", 2)), "below queue 'a', which has 4"),
        ((Share("a/x", 1),), "below queue 'a', which has 0"),
        ((Share("a", 4), Share("a", 4)), "two shares"),
        ((Share("a", 4, 3),), "<= limit"),
        ((Share("a", -1),), "0 <= guaranteed"),
        ((Share("a//x", 1),), "without a name"),
        ((Share("", 1),), "without a name"),
    ],
)
def test_a_tree_that_promises_too_much_is_refused(shares: tuple[Share, ...], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        Quotas(20, shares)


@given(st.lists(st.sampled_from(("a", "b", "b/x", "b/y", "c/z/w")), min_size=1), st.integers(0, 50))
def test_equal_shares_give_everything_away_and_differ_by_one(queues: list[str], capacity: int) -> None:
    shares = equal_shares(queues, capacity)
    Quotas(capacity, shares)  # no level promises more than it has
    tenants = [share.guaranteed_gpus for share in shares if "/" not in share.queue]
    assert sum(tenants) == capacity
    assert max(tenants) - min(tenants) <= 1
    assert {share.queue for share in shares} == {level for queue in queues for level in path_of(queue)}


def test_how_far_above_the_share_more_would_be() -> None:
    tree = quotas(a=4, b_x=3, b_y=3)
    assert tree.over_percent("a", 2) == 100
    assert tree.over_percent("a", 8) == 150
    assert tree.over_percent("b/y", 1) == 200, "its project is further above than its tenant"
    assert tree.over_percent("c", 3) == 300
