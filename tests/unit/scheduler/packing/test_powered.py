"""Claims under budgets: no budget of the tree is ever overdrawn, and what has room and power is placed."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.base.errors import ConflictError
from penstock.scheduler.packing.power import UNLIMITED_MW, Budget, PowerModel
from penstock.scheduler.packing.powered import PoweredTable
from penstock.scheduler.packing.residual import NodeKind, Request, Residuals
from penstock.scheduler.packing.waiting import WaitingRoom
from penstock.twin.place.policies import POLICIES, scorer
from tests.support.packing import ask, check_books, node_kinds, requests, workload

MODEL = PowerModel((20_000, 10_000, 50_000), (150_000, 70_000, 400_000), 3_000, 1_000)
PAIR = NodeKind(8_000, 100_000, 2, 0)  # 64 W on, 130 W more a device, 1 W a core


def powered(
    nodes: list[NodeKind],
    coming: list[Request],
    policy: str = "penstock",
    *,
    site: int = UNLIMITED_MW,
    rack: int = UNLIMITED_MW,
    node: int = UNLIMITED_MW,
    device: int = UNLIMITED_MW,
) -> tuple[PoweredTable, list[int]]:
    """Return a table with two nodes a rack under one site, and the row of each request."""
    shapes, mix, rows = workload(*coming)
    racks = -(-len(nodes) // 2)
    table = PoweredTable(
        shapes,
        Residuals(nodes),
        scorer(policy, mix, nodes),
        model=MODEL,
        above=[Budget(-1, site), *(Budget(0, rack) for _ in range(racks))],
        rack_of=[1 + number // 2 for number in range(len(nodes))],
        node_mw=[node] * len(nodes),
        device_mw=[device] * len(nodes),
    )
    return table, rows


def drawn_mw(table: PoweredTable, node: int) -> int:
    """Return what a node must draw by the model."""
    left = table.residuals
    if left.unused(node):
        return 0
    return MODEL.node_mw(left.kinds[node], left.cpu_milli[node], left.devices[node])


def check_power(table: PoweredTable, nodes: int) -> None:
    """Assert that the tree holds what the model says, everywhere within its limits."""
    tree = table.tree
    assert tree.drawn_mw(0) == sum(drawn_mw(table, node) for node in range(nodes))
    assert (tree._drawn <= tree._limits).all()
    assert (tree._drawn >= 0).all()


def test_a_nodes_first_claim_wakes_it_and_its_last_release_turns_it_off() -> None:
    table, (row,) = powered([PAIR], [ask(milli=500, cpu=1_000)])
    first, second = table.place(row), table.place(row)
    assert first is not None
    assert second is not None
    assert table.tree.drawn_mw(0) == 64_000 + 130_000 + 2_000
    table.release(row, first)
    assert table.tree.drawn_mw(0) == 64_000 + 130_000 + 1_000
    table.release(row, second)
    assert table.tree.drawn_mw(0) == 0


@pytest.mark.parametrize(
    ("budget", "places"),
    [
        ({}, [0, 0, 1, 1, 2, 2]),
        ({"site": 390_000}, [0, 1]),  # each node on with one device draws 195 W
        ({"rack": 200_000}, [0, 2]),
        ({"node": 200_000}, [0, 1, 2]),
        ({"device": 149_999}, []),
        ({"device": 150_000}, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_each_level_decides(budget: dict[str, int], places: list[int]) -> None:
    if "site" in budget:  # one device a node, so that the second node is the second place
        nodes, places = [NodeKind(8_000, 100_000, 1, 0)] * 3, [0, 1]
        budget = {"site": 2 * (44_000 + 130_000 + 1_000)}
    else:
        nodes = [PAIR] * 3
    table, (row,) = powered(nodes, [ask(cpu=1_000)], "first-fit", **budget)
    found = [placed.node for _ in range(8) if (placed := table.place(row)) is not None]
    assert found == places
    check_power(table, len(nodes))


def test_a_claim_without_power_changes_nothing() -> None:
    table, (row,) = powered([PAIR], [ask(cpu=1_000)], site=100_000)
    before = table.costs.copy()
    with pytest.raises(ConflictError):
        table.claim(row, 0)
    assert table.residuals.unused(0)
    assert table.tree.drawn_mw(0) == 0
    assert (table.costs == before).all()


limits = st.sampled_from([UNLIMITED_MW, 1_500_000, 700_000, 300_000])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    nodes=st.lists(node_kinds, min_size=1, max_size=5),
    coming=st.lists(requests, min_size=1, max_size=30),
    policy=st.sampled_from(POLICIES[1:]),
    site=limits,
    rack=limits,
    node=limits,
    device=st.sampled_from([UNLIMITED_MW, 200_000, 70_000]),
)
def test_no_budget_is_ever_overdrawn(
    nodes: list[NodeKind],
    coming: list[Request],
    policy: str,
    site: int,
    rack: int,
    node: int,
    device: int,
) -> None:
    table, rows = powered(nodes, coming, policy, site=site, rack=rack, node=node, device=device)
    kept = []
    for row in rows:
        placed = table.place(row)
        if placed is not None:
            kept.append((row, placed))
        check_power(table, len(nodes))
    for row, placed in kept[::2]:
        table.release(row, placed)
        check_power(table, len(nodes))
    check_books(table, [(row, placed.node, placed.devices) for row, placed in kept[1::2]])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    nodes=st.lists(node_kinds, min_size=2, max_size=5),
    coming=st.lists(requests, min_size=1, max_size=30),
    site=limits,
)
def test_nor_while_claims_migrate(nodes: list[NodeKind], coming: list[Request], site: int) -> None:
    table, rows = powered(nodes, coming, site=site)
    room = WaitingRoom(table)
    for row in rows * 2:
        room.offer(row)
        check_power(table, len(nodes))
    claims = [(one.shape, one.placed.node, one.placed.devices) for one in room.holdings.claims.values()]
    assert len(claims) + room.waiting == 2 * len(rows)
    check_books(table, claims)
