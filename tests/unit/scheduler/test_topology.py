"""Few nodes, then few domains."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.claim import Ask
from penstock.scheduler import Fleet, Plan, place
from penstock.scheduler.arrays import UNBOUNDED
from penstock.scheduler.topology import nodes_needed
from tests.support.fleets import CLASSES, device, node


def fewest(caps: list[int], count: int) -> int:
    """Try every set of rows."""
    sizes = range(1, len(caps) + 1)
    enough = (size for size in sizes if any(sum(rows) >= count for rows in combinations(caps, size)))
    return next(enough, UNBOUNDED)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=8), st.integers(1, 20))
def test_nodes_needed_is_the_fewest(rows: list[tuple[int, int]], count: int) -> None:
    caps = np.array([cap for cap, _ in rows], dtype=np.int64)
    owner = np.array([one for _, one in rows], dtype=np.int64)
    expected = [fewest([cap for cap, one in rows if one == which], count) for which in range(3)]
    assert nodes_needed(caps, owner, 3, count).tolist() == expected


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 12))
def test_an_order_without_a_domain_takes_the_fewest_nodes(free: list[int], count: int) -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes(node(f"n{one}") for one in range(len(free)))
    fleet.upsert_devices(
        device(f"n{one}d{position}", f"n{one}", nvlink_domain=f"x{one % 2}", used_mask=int(position >= room))
        for one, room in enumerate(free)
        for position in range(4)
    )
    decision = place(fleet, Ask(count, "H100"))
    needed = fewest(free, count)
    if isinstance(decision, Plan):
        assert len({grant.node_id for grant in decision.grants}) == needed
    else:
        assert needed == UNBOUNDED


def test_pairs_on_a_node_stay_whole() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n1")])
    fleet.upsert_devices(device(f"d{one}", "n1", nvlink_domain=f"pair{one // 2}") for one in range(6))
    for ask, pairs in ((Ask(1, "H100"), ["pair0"]), (Ask(1, "H100"), ["pair0"]), (Ask(2, "H100"), ["pair1"])):
        decision = place(fleet, ask)
        assert isinstance(decision, Plan)
        assert [chosen.nvlink_domain for chosen in decision.chosen] == pairs
        fleet.apply(decision.grants)


def test_devices_without_a_link_are_no_domain() -> None:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n1")])
    fleet.upsert_devices(device(f"d{one}", "n1") for one in range(2))
    assert isinstance(place(fleet, Ask(2, "H100")), Plan)
    assert isinstance(place(fleet, Ask(1, "H100", same_nvlink_domain=True)), Plan)
    decision = place(fleet, Ask(2, "H100", same_nvlink_domain=True))
    assert decision.to_json()["binding"] == "nvlink_domain"
    assert decision.to_json()["never_fits"] is True
