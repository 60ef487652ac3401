"""The cost table: what holds for every policy, whatever arrives."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.base.errors import ConflictError
from penstock.scheduler.packing.baselines import place_at_random
from penstock.scheduler.packing.residual import NodeKind, Request
from penstock.scheduler.packing.table import REFUSED, Placed
from penstock.twin.place.policies import POLICIES
from tests.support.packing import BIG, CPU_ONLY, SMALL, ask, check_books, node_kinds, requests, table_of

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
fleets = st.lists(node_kinds, min_size=1, max_size=6)
arrivals = st.lists(requests, min_size=1, max_size=40)


@FEW
@given(nodes=fleets, coming=arrivals, policy=st.sampled_from(POLICIES))
def test_nothing_is_ever_oversubscribed_and_nothing_that_fits_is_refused(
    nodes: list[NodeKind], coming: list[Request], policy: str
) -> None:
    table, rows = table_of(policy, nodes, *coming)
    random = np.random.default_rng(1)
    claims: list[tuple[int, int, tuple[int, ...]]] = []
    for row in rows:
        fits = any(table.residuals.fits(node, table.requests[row]) for node in range(len(nodes)))
        placed = place_at_random(table, row, random) if policy == "random" else table.place(row)
        assert (placed is not None) == fits
        if placed is not None:
            claims.append((row, placed.node, placed.devices))
        check_books(table, claims)


@FEW
@given(nodes=fleets, coming=arrivals, policy=st.sampled_from(POLICIES[1:]))
def test_the_kept_costs_are_those_of_a_fresh_table(
    nodes: list[NodeKind], coming: list[Request], policy: str
) -> None:
    table, rows = table_of(policy, nodes, *coming)
    kept = [(row, placed) for row in rows if (placed := table.place(row)) is not None]
    for row, placed in kept[::3]:
        table.release(row, placed)
    fresh, _ = table_of(policy, nodes, *coming)
    for row, placed in (one for position, one in enumerate(kept) if position % 3):
        fresh.restore(row, placed)
    assert np.array_equal(table.costs, fresh.costs)


@FEW
@given(nodes=fleets, more=node_kinds, coming=arrivals, policy=st.sampled_from(POLICIES[1:]))
def test_one_more_node_never_turns_away_what_was_accepted_after_the_same_prefix(
    nodes: list[NodeKind], more: NodeKind, coming: list[Request], policy: str
) -> None:
    table, rows = table_of(policy, nodes, *coming)
    wider, _ = table_of(policy, [*nodes, more], *coming)
    for row in rows:
        could = bool((wider.costs[row] != REFUSED).any())
        placed = table.place(row)
        if placed is not None:
            assert could
            wider.restore(row, placed)  # the same prefix


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_a_replay_is_the_same_every_time(policy: str) -> None:
    coming = [ask(milli=470, cpu=9_000), ask(), ask(8, cpu=64_000), ask(0, cpu=12_000), ask(milli=810)] * 5
    runs = []
    for _ in range(2):
        table, rows = table_of(policy, [BIG, SMALL, CPU_ONLY, BIG], *coming)
        runs.append([table.place(row) for row in rows])
    assert runs[0] == runs[1]


def test_a_claim_that_does_not_fit_changes_nothing() -> None:
    table, (row,) = table_of("first-fit", [SMALL], ask(2, cpu=1_000))
    table.claim(row, 0)
    before = table.residuals.state(0), table.residuals.memory_mib[0]
    with pytest.raises(ConflictError):
        table.claim(row, 0)
    with pytest.raises(ConflictError):
        table.restore(row, Placed(0, (0, 0)))
    assert (table.residuals.state(0), table.residuals.memory_mib[0]) == before


def test_a_release_gives_back_once() -> None:
    table, (row,) = table_of("best-fit", [SMALL], ask())
    placed = table.claim(row, 0)
    table.release(row, placed)
    assert table.residuals.used_milli == 0
    with pytest.raises(ConflictError):
        table.release(row, placed)


def test_a_closed_node_takes_nothing_until_it_is_refreshed() -> None:
    table, (row,) = table_of("penstock", [SMALL], ask())
    table.close(0)
    assert table.place(row) is None
    table.refresh(0)
    assert table.place(row) == Placed(0, (0,))


def test_memory_decides_though_states_are_shared() -> None:
    poor = NodeKind(SMALL.cpu_milli, 4_000, SMALL.devices, SMALL.model)
    table, (row,) = table_of("penstock", [poor, SMALL], ask(memory=8_000))
    assert table.place(row) == Placed(1, (0,))
    assert table.costs[row, 0] == REFUSED
