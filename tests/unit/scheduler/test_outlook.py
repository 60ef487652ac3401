"""What is expected decides; and the engine's planner chooses as the twin does, by the same costs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from penstock.base.limits import OUTLOOK_SCORERS_MAX
from penstock.domain.claim import Ask
from penstock.scheduler import Fleet, Plan, place
from penstock.scheduler.outlook import Demand, Outlook, demand_of, piece_milli
from penstock.scheduler.packing.lookahead import TIE_PER_MILLI, Lookahead
from penstock.scheduler.packing.residual import NodeKind, Residuals
from penstock.scheduler.packing.shape import ANY_MODEL, WHOLE_MILLI, shapes_of
from penstock.scheduler.packing.table import REFUSED, CostTable
from tests.support.fleets import CLASSES, device, node, planned

SLICES = {name: one.slices for name, one in CLASSES.items()}
H100 = SLICES["H100"]
# Sevenths are 142 thousandths, so the twin still sees 6 on a device whose slices are all taken, of at most 8 on a node.
# Only nodes that are equal but for that may be told apart by it.
ROUNDED = TIE_PER_MILLI * (WHOLE_MILLI - H100 * piece_milli(1, H100)) * 8

asks = st.builds(
    lambda count, slices, cores: Ask(
        count if not slices else 1, "H100", slices=slices, node_cpu_millis=1_000 * cores
    ),
    st.sampled_from([1, 1, 1, 2, 4, 8]),
    st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
    st.sampled_from([0, 2, 4, 8, 15]),
)
nodes = st.tuples(st.sampled_from([2, 4, 8]), st.sampled_from([16, 32, 64, 128]))

# Two nodes that are equal in the end, on one of which a device is full of slices.
TIED = [(1, 0, 0), (1, 0, 4), (1, 0, 4), (1, 2, 8), (1, 4, 8), (4, 0, 8), (1, 1, 8), (1, 0, 0)]


def fleet_of(shapes: list[tuple[int, int]], outlook: Outlook) -> Fleet:
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes(node(f"n{row}", cpu_millis=1_000 * cores) for row, (_, cores) in enumerate(shapes))
    fleet.upsert_devices(
        device(f"n{row}d{position}", f"n{row}")
        for row, (count, _) in enumerate(shapes)
        for position in range(count)
    )
    fleet.expect(outlook)
    return fleet


def request(ask: Ask) -> tuple[int, int, int, int, int]:
    milli = piece_milli(ask.slices or H100, H100)
    return (ask.node_cpu_millis * ask.count, 0, ask.count, milli, ANY_MODEL)


@example(
    [(8, 32), (8, 32)],
    [Ask(count, "H100", slices=slices, node_cpu_millis=1_000 * cores) for count, slices, cores in TIED],
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nodes, min_size=2, max_size=7), st.lists(asks, min_size=1, max_size=25))
def test_the_engine_and_the_twin_choose_the_same_node(
    shapes: list[tuple[int, int]], coming: list[Ask]
) -> None:
    outlook = Outlook([(demand_of(ask), 1) for ask in coming], SLICES)
    fleet = fleet_of(shapes, outlook)
    kinds = [NodeKind(1_000 * cores, 0, count, 0) for count, cores in shapes]
    requests, rows = shapes_of(np.array([request(ask) for ask in coming], dtype=np.int64).T)
    table = CostTable(requests, Residuals(kinds), Lookahead(requests, outlook.prospects("H100")))
    for ask, row in zip(coming, rows.tolist(), strict=True):
        costs, engine = table.costs[row].copy(), place(fleet, ask)
        if costs.min() == REFUSED:
            # The product may still spread whole devices over several nodes, which a trace's pod cannot.
            assert not isinstance(engine, Plan) or len({grant.node_id for grant in engine.grants}) > 1
            continue
        assert isinstance(engine, Plan)
        (node_id,) = {grant.node_id for grant in engine.grants}
        chosen = int(node_id.removeprefix("n"))
        assert costs[chosen] - costs.min() <= ROUNDED
        assert len(table.claim(row, chosen).devices) == len(engine.grants)
        fleet.apply(engine.grants)


def test_a_piece_goes_to_the_device_whose_rest_is_still_of_use() -> None:
    """Fours and threes are expected: a three goes beside a four, not to where it would leave an odd slice."""
    outlook = Outlook([(Demand(1, 4, 0, ("H100",)), 50), (Demand(1, 3, 0, ("H100",)), 50)], SLICES)
    fleet = fleet_of([(1, 64), (1, 64)], outlook)
    fleet.upsert_devices([device("n0d0", "n0", used_mask=0b111), device("n1d0", "n1", used_mask=0b1111)])
    three, four = Ask(1, "H100", slices=3), Ask(1, "H100", slices=4)
    assert planned(fleet, three).grants[0].node_id == "n1"
    assert planned(fleet, four).grants[0].node_id == "n0"


def test_cpu_is_the_second_wall() -> None:
    """A device on a node without CPU for it is not spoilt by work that needs none, and the other way round."""
    outlook = Outlook([(Demand(1, 0, 8_000, ("H100",)), 100)], SLICES)
    fleet = fleet_of([(4, 32), (4, 9)], outlook)
    lean = planned(fleet, Ask(1, "H100"))
    assert lean.grants[0].node_id == "n1"  # three of its devices lack CPU for what is to come
    rich = planned(fleet, Ask(1, "H100", node_cpu_millis=8_000))
    assert rich.grants[0].node_id == "n0"
    reasons = {reason.code: reason for reason in rich.score_reasons}
    assert "of a device beyond what it takes" in reasons["least_loss"].sentence


def test_single_devices_leave_whole_nodes_to_groups() -> None:
    fleet = fleet_of([(8, 64), (8, 64)], Outlook((), SLICES))
    first = planned(fleet, Ask(1, "H100")).grants[0].node_id
    for _ in range(7):
        assert planned(fleet, Ask(1, "H100")).grants[0].node_id == first
    assert isinstance(place(fleet, Ask(8, "H100", node_cpu_millis=8_000)), Plan)


@pytest.mark.parametrize(
    ("slices", "total", "milli"), [(7, 7, 1_000), (1, 7, 142), (3, 4, 750), (9, 7, 1_000)]
)
def test_pieces_in_thousandths(slices: int, total: int, milli: int) -> None:
    assert piece_milli(slices, total) == milli


def test_the_digest_names_what_is_expected() -> None:
    some, other = (Outlook([(Demand(1, 2), weight)], SLICES) for weight in (3, 4))
    assert some.digest == Outlook([(Demand(1, 2), 3)], SLICES).digest
    assert some.digest != other.digest


def test_scorers_are_bounded() -> None:
    outlook = Outlook((), SLICES)
    first = outlook.scorer("H100", 0, 1, 1_000)
    assert outlook.scorer("H100", 0, 1, 1_000) is first
    for cpu in range(1, OUTLOOK_SCORERS_MAX + 1):
        outlook.scorer("H100", cpu, 1, 1_000)
    assert outlook.scorer("H100", 0, 1, 1_000) is not first
