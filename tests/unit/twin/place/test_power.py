"""Power in a replay: facts that are not made up, budgets, and less power at no less allocation."""

from pathlib import Path

import numpy as np
import pytest

from penstock.base.errors import InvalidInputError
from penstock.scheduler.packing.lookahead import PowerCost
from penstock.scheduler.packing.power import PowerModel
from penstock.scheduler.packing.powered import PoweredTable
from penstock.scheduler.packing.residual import NodeKind, Residuals
from penstock.scheduler.packing.table import CostTable
from penstock.twin.place.policies import scorer
from penstock.twin.place.power import PowerFacts, PowerMeter, PowerPlan, power_facts
from tests.support.packing import ask, workload

FILE = """
[host]
core_on_w = 3
core_used_w = 1.5
[device.X]
idle_w = 10
load_w = 100
[device.Y]
idle_w = 5
load_w = 50
assumed = "idle_w"
"""
MODEL = PowerModel((10_000,), (100_000,), 1_000, 500)


def test_facts_come_from_the_file_and_assumptions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "power.toml"
    path.write_text(FILE)
    facts = power_facts(("Y", "X"), path)
    assert facts.model == PowerModel((5_000, 10_000), (50_000, 100_000), 3_000, 1_500)
    assert facts.assumed == ("Y",)


def test_the_shipped_facts_say_what_is_assumed() -> None:
    facts = power_facts(("A10", "G2", "G3", "P100", "T4", "V100M16", "V100M32"))
    assert facts.assumed == ("A10", "G2", "G3", "P100")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace("[device.X]", "[device.Z]"), "nothing known about X"),
        (FILE.replace("load_w = 100", "load_w = 9"), "device.X.idle_w is above"),
        (FILE.replace("idle_w = 10", "idle_w = -1"), "device.X.idle_w must be"),
        (FILE.replace("idle_w = 10", "idle_w = true"), "device.X.idle_w must be"),
        (FILE.replace("core_on_w = 3", ""), "host.core_on_w must be"),
        ("[", "no TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "power.toml"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=said.replace(".", r"\.")):
        power_facts(("X",), path)


def test_the_meter_counts_nodes_that_are_off_and_those_left_on() -> None:
    residuals = Residuals([NodeKind(4_000, 100, 1, 0)] * 2)
    meter = PowerMeter(MODEL, residuals)
    meter.tick()
    residuals.take(0, ask(cpu=2_000, memory=1), (0,))
    meter.update(0)
    meter.tick()
    assert meter.awake == 1
    assert meter.drawn_kw == pytest.approx(0.105)  # 4 W and 100 W and two cores
    assert meter.mean_kw == pytest.approx(0.105 / 2, abs=1e-3)
    assert meter.mean_always_on_kw == pytest.approx((0.028 + 0.119) / 2, abs=1e-3)


def test_budgets_make_a_tree_of_site_rows_racks_and_nodes() -> None:
    shapes, mix, rows = workload(ask(cpu=1_000))
    nodes = [NodeKind(4_000, 100_000, 1, 0)] * 6
    plan = PowerPlan(PowerFacts(MODEL, ()), 0.0, {"row": 210_000}, nodes_per_rack=1, racks_per_row=3)
    table = plan.table(shapes, Residuals(nodes), scorer("first-fit", mix, nodes))
    assert isinstance(table, PoweredTable)
    found = [placed.node for _ in range(9) if (placed := table.place(rows[0])) is not None]
    assert found == [0, 1, 3, 4]
    plain = PowerPlan(PowerFacts(MODEL, ())).table(shapes, Residuals(nodes), scorer("fgd", mix, nodes))
    assert type(plain) is CostTable


def test_a_weight_on_power_prefers_the_node_that_is_awake_and_the_frugal_model() -> None:
    thrifty = PowerModel((10_000, 10_000), (100_000, 50_000), 1_000, 500)
    nodes = [NodeKind(64_000, 256_000, 4, 0), NodeKind(64_000, 256_000, 4, 1)]
    shapes, mix, rows = workload(*[ask(cpu=1_000)] * 4)
    cost = PowerCost(thrifty, nodes, 0.5)
    table = CostTable(shapes, Residuals(nodes), scorer("penstock", mix, nodes, cost))
    places = [table.place(rows[0]) for _ in range(5)]
    assert np.array_equal([place.node for place in places if place], [1, 1, 1, 1, 0])
