"""Power in a replay: facts about device models, and the draw of the fleet as requests arrive."""

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from penstock.base.errors import InvalidInputError
from penstock.base.limits import TRACE_BYTES_MAX
from penstock.scheduler.packing.power import UNLIMITED_MW, Budget, PowerModel
from penstock.scheduler.packing.powered import PoweredTable
from penstock.scheduler.packing.residual import Residuals
from penstock.scheduler.packing.shape import Shapes
from penstock.scheduler.packing.table import CostTable, Scorer

_WATTS_MAX = 100_000.0


@dataclass(frozen=True, slots=True)
class PowerFacts:
    """The power model of a fleet, and the device models for which a part of it is assumed."""

    model: PowerModel
    assumed: tuple[str, ...]


def _milliwatts(name: str, table: dict[str, Any], key: str) -> int:
    watts = table.get(key)
    if isinstance(watts, bool) or not isinstance(watts, int | float) or not 0 <= watts <= _WATTS_MAX:
        raise InvalidInputError(f"power: {name}.{key} must be a number of watts from 0 to {_WATTS_MAX:.0f}")
    return round(watts * 1_000)


def power_facts(models: tuple[str, ...], path: Path | None = None) -> PowerFacts:
    """Return the facts for ``models`` from ``path``, by default the shipped file.

    Raises InvalidInputError for a model that the file does not know: no figure is made up.
    """
    if path is None:
        text = resources.files("penstock.twin.place").joinpath("power.toml").read_text("utf-8")
    elif path.stat().st_size > TRACE_BYTES_MAX:
        raise InvalidInputError(f"{path}: too large; give a power file like the shipped one")
    else:
        text = path.read_text("utf-8", errors="replace")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"power: no TOML ({error}); give a file like the shipped one") from error
    host, devices = tables.get("host", {}), tables.get("device", {})
    unknown = [model for model in models if model not in devices]
    if unknown:
        raise InvalidInputError(
            f"power: nothing known about {', '.join(unknown)}; give a file with a table [device.{unknown[0]}] by --power"
        )
    named = [(f"device.{model}", devices[model]) for model in models]
    for name, table in named:
        if _milliwatts(name, table, "idle_w") > _milliwatts(name, table, "load_w"):
            raise InvalidInputError(f"power: {name}.idle_w is above its load_w; mend one of them")
    model = PowerModel(
        tuple(_milliwatts(name, table, "idle_w") for name, table in named),
        tuple(_milliwatts(name, table, "load_w") for name, table in named),
        _milliwatts("host", host, "core_on_w"),
        _milliwatts("host", host, "core_used_w"),
    )
    return PowerFacts(
        model,
        tuple(name for name, table in zip(models, dict(named).values(), strict=True) if "assumed" in table),
    )


LEVELS = ("site", "row", "rack", "node", "device")


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """How a replay treats power: the facts, the weight in the policy, budgets per level in mW, and the grouping."""

    facts: PowerFacts
    weight: float = 0.0
    budget_mw: dict[str, int] = field(default_factory=dict[str, int])
    nodes_per_rack: int = 8
    racks_per_row: int = 16

    def table(self, shapes: Shapes, residuals: Residuals, scorer: Scorer) -> CostTable:
        """Return the cost table: a plain one without budgets, else one under a tree of site, rows, racks, nodes."""
        if not self.budget_mw:
            return CostTable(shapes, residuals, scorer)
        limit = {level: self.budget_mw.get(level, UNLIMITED_MW) for level in LEVELS}
        racks = -(-len(residuals) // self.nodes_per_rack)
        rows = -(-racks // self.racks_per_row)
        above = [Budget(-1, limit["site"]), *(Budget(0, limit["row"]) for _ in range(rows))]
        above += [Budget(1 + rack // self.racks_per_row, limit["rack"]) for rack in range(racks)]
        return PoweredTable(
            shapes,
            residuals,
            scorer,
            model=self.facts.model,
            above=above,
            rack_of=[1 + rows + node // self.nodes_per_rack for node in range(len(residuals))],
            node_mw=[limit["node"]] * len(residuals),
            device_mw=[limit["device"]] * len(residuals),
        )


class PowerMeter:
    """What the fleet draws, arrival by arrival; nodes on which nothing runs are off.

    ``always_on``: the same replay if unused nodes were left on. Means are over the arrivals until the whole
    fleet has been asked for, each arrival counting alike.
    """

    def __init__(self, model: PowerModel, residuals: Residuals) -> None:
        self._model = model
        self._residuals = residuals
        self._at_mw = [0] * len(residuals)
        self._off_mw = [model.host_on_mw(kind) for kind in residuals.kinds]
        self.drawn_mw = 0
        self.always_on_mw = sum(self._off_mw)
        self.awake = 0
        self._sums = [0, 0]
        self._arrivals = 0

    def update(self, node: int) -> None:
        """Measure ``node`` again after something changed there."""
        residuals, before = self._residuals, self._at_mw[node]
        on_mw = self._model.node_mw(residuals.kinds[node], residuals.cpu_milli[node], residuals.devices[node])
        after = 0 if residuals.unused(node) else on_mw
        self._at_mw[node] = after
        self.drawn_mw += after - before
        self.awake += (after > 0) - (before > 0)
        self.always_on_mw += (after or self._off_mw[node]) - (before or self._off_mw[node])

    def tick(self) -> None:
        """Count one arrival into the means."""
        self._arrivals += 1
        self._sums[0] += self.drawn_mw
        self._sums[1] += self.always_on_mw

    @property
    def drawn_kw(self) -> float:
        """Return what is drawn now, in kW."""
        return round(self.drawn_mw / 1_000_000, 3)

    @property
    def mean_kw(self) -> float:
        """Return the mean draw in kW."""
        return round(self._sums[0] / max(self._arrivals, 1) / 1_000_000, 3)

    @property
    def mean_always_on_kw(self) -> float:
        """Return the mean draw in kW if unused nodes stayed on."""
        return round(self._sums[1] / max(self._arrivals, 1) / 1_000_000, 3)
