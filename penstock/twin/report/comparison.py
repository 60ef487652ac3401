"""A comparison of two policies: which figures, which is better, and what the difference is worth in a year.

It takes what `penstock twin queue`, `place` and `topology` print with `--json`. Formulas, all exact until one rounding
at the end:

- points = utilisation (queue), allocation at 130 % arrived (place) or occupancy (topology) of B minus that of A;
- euro a year = points / 100 x GPUs x price per GPU-hour x 8,760 h;
- energy of a policy = (used GPU-hours x load + idle GPU-hours x idle) over the study's time, in a year.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import isclose
from typing import Any, cast

from penstock.base.errors import InvalidInputError
from penstock.base.units import HOURS_PER_YEAR
from penstock.rating.usage import round_half_even

_FRAGMENTATION = "Fragmentation"


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the comparison. ``better`` is ``a``, ``b``, or empty where they are within a thousandth."""

    name: str
    unit: str
    a: float
    b: float
    better: str

    @property
    def difference(self) -> float:
        """Return what B has more."""
        return round(self.b - self.a, 4)


@dataclass(frozen=True, slots=True)
class YearValue:
    """What the points between A and B are worth at one price; negative where B uses less."""

    microeur_per_gpu_hour: int
    microeur_per_year: int


@dataclass(frozen=True, slots=True)
class Energy:
    """Modelled energy of the GPUs in a year, from what one draws idle and under load."""

    idle_watts: int
    load_watts: int
    a_kwh_per_year: int
    b_kwh_per_year: int
    a_wh_per_useful_gpu_hour: float
    b_wh_per_useful_gpu_hour: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart over ``x``."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Bars:
    """Two bars a name."""

    names: tuple[str, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the page shows. ``study`` is ``queue`` or ``place``; parts that a study does not have are None."""

    study: str
    a: str
    b: str
    gpus: int
    points: float
    measures: tuple[Measure, ...]
    values: tuple[YearValue, ...]
    energy: Energy | None
    over: tuple[Line, Line] | None
    waits: Bars | None

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)

    @property
    def fragmentation(self) -> Measure | None:
        """Return the measure of fragmentation, None if the study has none."""
        return next((one for one in self.measures if one.name.startswith(_FRAGMENTATION)), None)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is given beside the results: prices, watts of a GPU, and GPUs where the results do not say how many."""

    prices_microeur: Sequence[int]
    watts: tuple[int, int] | None = None
    gpus: int | None = None


_QUEUE = (
    ("utilisation_pct", "Utilisation", "%", True),
    ("mean_wait_h", "Mean wait", "h", False),
    ("median_wait_h", "Median wait", "h", False),
    ("p99_wait_h", "99th percentile of waits", "h", False),
    ("mean_wait_h_ge8", "Mean wait, 8 GPUs and more", "h", False),
    ("makespan_d", "Makespan", "d", False),
    ("broken_pct", _FRAGMENTATION + ", free GPUs on partly used nodes", "%", False),
    ("lost_gpu_h", "Work lost to stops and moves", "GPU-h", False),
)
_PLACE = (
    ("alloc_pct_130", "Allocation, 130 % arrived", "%", True),
    ("alloc_pct_100", "Allocation, 100 % arrived", "%", True),
    ("frag_pct", _FRAGMENTATION, "%", False),
    ("migrations", "Migrations", "", False),
    ("moved_gpu_pct", "GPUs moved", "%", False),
    ("power.kw_mean", "Modelled power, mean over the load", "kW", False),
    ("power.kw_100", "Modelled power, 100 % arrived", "kW", False),
)
_TOPOLOGY = (
    ("occupancy_pct", "Occupancy", "%", True),
    ("shape_kept_pct", "Orders of several devices in their shape", "%", True),
    ("mean_wait_h_single", "Mean wait, one device", "h", False),
    ("mean_wait_h_gang", "Mean wait, several devices", "h", False),
    ("mean_wait_h_rack", "Mean wait, a rack and more", "h", False),
    ("started", "Orders started", "", True),
)
_ARRIVED_STEP_PCT = 5  # of a placement study: one value per 5 % arrived
_UTILISATION = {"queue": "utilisation_pct", "place": "alloc_pct_130", "topology": "occupancy_pct"}
_MEASURES = {"queue": _QUEUE, "place": _PLACE, "topology": _TOPOLOGY}


def study_of(results: Sequence[Mapping[str, Any]]) -> str:
    """Tell which study the results are of, by their fields; InvalidInputError if of none or of several."""
    kinds = {kind for kind, field in _UTILISATION.items() for result in results if field in result}
    if len(kinds) != 1 or not all(
        any(field in result for field in _UTILISATION.values()) for result in results
    ):
        raise InvalidInputError(
            "give results of one study: what 'penstock twin queue', 'place' or 'topology' prints with --json "
            "('twin steer' compares by itself, and of 'topology' only the study 'full' is compared)"
        )
    return kinds.pop()


def pick(results: Sequence[Mapping[str, Any]], policy: str) -> list[Mapping[str, Any]]:
    """Return the results of ``policy``, one a seed; InvalidInputError naming the policies if there is none."""
    found = [result for result in results if result.get("policy") == policy]
    if not found:
        names = ", ".join(dict.fromkeys(str(result.get("policy")) for result in results))
        raise InvalidInputError(f"no result of policy '{policy}'; there are {names}")
    return found


def number(results: Sequence[Mapping[str, Any]], field: str) -> float | None:
    """Return the mean of a field over the results, None where one does not have it; InvalidInputError if no number."""
    values = [_field(result, field) for result in results]
    if any(value is None for value in values):
        return None
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise InvalidInputError(f"'{field}' is not a number in every result")
    return sum(float(cast("float", value)) for value in values) / len(values)


def _field(result: Mapping[str, Any], path: str) -> object:
    """Return a field, or one inside another (``power.kw_mean``); None if it is not there."""
    found: object = result
    for name in path.split("."):
        found = cast("Mapping[str, object]", found).get(name) if isinstance(found, Mapping) else None
    return found


def compare(
    a_results: Sequence[Mapping[str, Any]], b_results: Sequence[Mapping[str, Any]], terms: Terms
) -> Comparison:
    """Compare two policies of one study; results of several seeds count as their mean. Raises InvalidInputError."""
    study = study_of([*a_results, *b_results])
    gpus = terms.gpus if terms.gpus is not None else _same_gpus(a_results, b_results)
    measures: list[Measure] = []
    for field, name, unit, more_is_better in _MEASURES[study]:
        a, b = number(a_results, field), number(b_results, field)
        if a is not None and b is not None:
            better = "" if isclose(a, b, rel_tol=0.001) else "b" if (b > a) == more_is_better else "a"
            measures.append(Measure(name, unit, round(a, 4), round(b, 4), better))
    a_used, b_used = number(a_results, _UTILISATION[study]), number(b_results, _UTILISATION[study])
    if a_used is None or b_used is None:
        raise InvalidInputError(f"every result needs {_UTILISATION[study]}")
    points = Fraction(str(round(b_used, 4))) - Fraction(str(round(a_used, 4)))
    per_euro = points / 100 * gpus * HOURS_PER_YEAR
    return Comparison(
        study=study,
        a=str(a_results[0]["policy"]),
        b=str(b_results[0]["policy"]),
        gpus=gpus,
        points=float(points),
        measures=tuple(measures),
        values=tuple(YearValue(price, round_half_even(price * per_euro)) for price in terms.prices_microeur),
        energy=None if terms.watts is None else _energy(a_results, b_results, gpus, study, terms.watts),
        over=_over(a_results, b_results, study),
        waits=_waits(a_results[0], b_results[0]),
    )


def _same_gpus(a_results: Sequence[Mapping[str, Any]], b_results: Sequence[Mapping[str, Any]]) -> int:
    counts = {result.get("gpus") for result in (*a_results, *b_results)}
    gpus = counts.pop()
    if counts or not isinstance(gpus, int) or gpus < 1:
        raise InvalidInputError("the results do not agree on a number of GPUs; give it with --gpus")
    return gpus


def _energy(
    a_results: Sequence[Mapping[str, Any]],
    b_results: Sequence[Mapping[str, Any]],
    gpus: int,
    study: str,
    watts: tuple[int, int],
) -> Energy:
    """Return a year at the study's utilisation; work that was lost draws as much as work that was not."""
    idle_watts, load_watts = watts

    def kwh_and_wh(results: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
        useful = Fraction(str(round(number(results, _UTILISATION[study]) or 0.0, 4))) / 100
        lost_h, window_h = number(results, "lost_gpu_h") or 0.0, number(results, "window_h") or 0.0
        lost = Fraction(str(lost_h)) / (Fraction(str(window_h)) * gpus) if window_h else Fraction(0)
        used = min(Fraction(1), useful + lost)
        mean_watts = used * load_watts + (1 - used) * idle_watts
        kwh = round_half_even(mean_watts * gpus * HOURS_PER_YEAR / 1_000)
        return kwh, round(float(mean_watts / useful), 1) if useful else 0.0

    a_kwh, a_wh = kwh_and_wh(a_results)
    b_kwh, b_wh = kwh_and_wh(b_results)
    return Energy(idle_watts, load_watts, a_kwh, b_kwh, a_wh, b_wh)


def _over(
    a_results: Sequence[Mapping[str, Any]], b_results: Sequence[Mapping[str, Any]], study: str
) -> tuple[Line, Line] | None:
    """Return utilisation over hours (queue) or allocation over what has arrived, in % of the fleet (place)."""

    def line(results: Sequence[Mapping[str, Any]]) -> Line | None:
        first = results[0]
        try:
            if study == "queue":
                step = float(first["series"]["step_h"])
                y = tuple(map(float, first["series"]["utilisation_pct"]))
                x = tuple(step * index for index in range(len(y)))
            else:  # a study of topology has no curve
                y = tuple(map(float, first["curve_pct"]))
                x = tuple(float(_ARRIVED_STEP_PCT * index) for index in range(len(y)))
        except (KeyError, TypeError, ValueError):
            return None  # an older study, or one by another tool: the page does without the chart
        return Line(str(first["policy"]), x, y) if y else None

    a, b = line(a_results), line(b_results)
    return None if a is None or b is None else (a, b)


def _waits(a_result: Mapping[str, Any], b_result: Mapping[str, Any]) -> Bars | None:
    """Return mean waits by size; None if a result does not have them, or other sizes."""
    try:
        a = {str(row["gpus"]): float(row["mean_wait_h"]) for row in a_result["waits_by_size"]}
        b = {str(row["gpus"]): float(row["mean_wait_h"]) for row in b_result["waits_by_size"]}
    except (KeyError, TypeError, ValueError):
        return None  # an older study, or one by another tool: the page does without the chart
    return Bars(tuple(a), tuple(a.values()), tuple(b.values())) if a and list(a) == list(b) else None
