"""Who is in a partition: judged from who is on a node, who is not out yet, and what a manager has."""

from datetime import timedelta

import pytest

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain import fabric_partition as fabric
from penstock.domain.fabric_partition import Candidate, MemberState
from penstock.domain.policy import Fabric

ME, OTHER = "prj_me", "prj_other"


def node(*holders: str, asked: bool = True, not_out: tuple[str, ...] = (), managed: bool = True) -> Candidate:
    return Candidate("nod_1", asked, frozenset(holders), frozenset(not_out), managed)


@pytest.mark.parametrize(
    ("candidate", "inside", "reason"),
    [
        (node(ME), True, ""),
        (node(ME, not_out=(ME,)), True, ""),
        (node(ME, asked=False), False, ""),
        (node(), False, ""),
        (node(OTHER), False, ""),
        (node(ME, OTHER), False, fabric.SHARED),
        (node(ME, not_out=(OTHER,)), False, fabric.OTHERS),
        (node(ME, managed=False), False, fabric.NO_MANAGER),
    ],
)
def test_only_who_has_a_node_to_itself_is_in(candidate: Candidate, inside: bool, reason: str) -> None:  # noqa: FBT001 - expected
    assert fabric.judge(candidate, ME) == (inside, reason)


def test_a_node_that_was_told_leaves_before_it_is_forgotten() -> None:
    for was in (MemberState.JOINING, MemberState.MEMBER, MemberState.LEAVING):
        assert fabric.next_state(was, inside=False, reason="") is MemberState.LEAVING
        assert fabric.next_state(was, inside=False, reason=fabric.SHARED) is MemberState.LEAVING
    assert fabric.next_state(None, inside=False, reason="") is None
    assert fabric.next_state(MemberState.REFUSED, inside=False, reason="") is None
    assert fabric.next_state(None, inside=False, reason=fabric.SHARED) is MemberState.REFUSED
    for was in (None, MemberState.LEAVING, MemberState.REFUSED, MemberState.JOINING):
        assert fabric.next_state(was, inside=True, reason="") is MemberState.JOINING
    assert fabric.next_state(MemberState.MEMBER, inside=True, reason="") is MemberState.MEMBER
    assert [fabric.settled(state) for state in MemberState] == [
        MemberState.MEMBER,
        MemberState.MEMBER,
        None,
        MemberState.REFUSED,
    ]


def test_a_manager_differs_by_key_or_members_in_any_order_or_says_nothing() -> None:
    config = fabric.config_of(5, ["b", "a"])
    assert config == {"pkey": 5, "members": ["a", "b"]}
    assert not fabric.differs(config, {"pkey": 5, "members": ["b", "a"]})
    assert not fabric.differs(config, None)
    assert not fabric.differs(config, {"meters": {}})
    for found in (
        {"pkey": 6, "members": ["a", "b"]},
        {"pkey": 5, "members": ["a"]},
        {"pkey": 5, "members": None},
    ):
        assert fabric.differs(config, found), found


def test_pauses_double_up_to_a_bound() -> None:
    seconds = [fabric.pause(attempts) / timedelta(seconds=1) for attempts in range(8)]
    assert seconds == [1, 1, 2, 4, 8, 16, 32, 60]
    assert fabric.pause(10**6) == limits.FABRIC_RETRY_MAX


def test_policy_decides_by_how_many_nodes() -> None:
    made = [[fabric.is_made(policy, nodes) for policy in Fabric] for nodes in (["a"], ["a", "b"])]
    assert made == [[False, True, False], [True, True, False]]


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a\n", "a b", "a" * 64])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        fabric.check_name(name, "spec.fabric")
    assert refused.value.field == "spec.fabric"
    assert fabric.check_name("a-1", "spec.fabric") == "a-1"
