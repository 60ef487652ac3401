"""`penstock twin place`: the arguments, the replays, and their results as JSON or as a table."""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from penstock.base.errors import InvalidInputError
from penstock.base.limits import TRACE_LINES_MAX, TWIN_COPIES_MAX, TWIN_SEEDS_MAX
from penstock.scheduler.packing.fragment import typical_of
from penstock.scheduler.packing.shape import mix_of
from penstock.twin.place.arrivals import arrivals
from penstock.twin.place.policies import POLICIES, chosen
from penstock.twin.place.power import LEVELS, PowerPlan, power_facts
from penstock.twin.place.replay import MODES, Outcome, Setting, Study, replay
from penstock.twin.place.traces import read_nodes, read_pods

FIRST_SEED = 42  # of the FGD study
_NUMBERS = (
    ("seeds", TWIN_SEEDS_MAX),
    ("copies", TWIN_COPIES_MAX),
    ("nodes-per-rack", 10_000),
    ("racks-per-row", 10_000),
)
_KILOWATTS_MAX = 1e9
EPILOG = """\
examples:
  penstock twin place --nodes nodes.csv --pods pods.csv.gz --policy fgd,penstock --seeds 3
  penstock twin place --nodes nodes.csv --pods pods.csv.gz --policy penstock --mode defragment --json
  penstock twin place --nodes nodes.csv --pods pods.csv.gz --power-weight 0.1 --budget site=900 --budget rack=8
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="penstock twin place",
        description="Requests arrive at a list of nodes, up to 130 % of its devices, and none leaves: "
        "how much of the fleet does each policy allocate?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--nodes", type=Path, required=True, help="CSV: sn, cpu_milli, memory_mib, gpu, model"
    )
    parser.add_argument(
        "--pods",
        type=Path,
        required=True,
        help="CSV: name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec",
    )
    parser.add_argument(
        "--policy", default="penstock", help=f"one or more of {', '.join(POLICIES)}, separated by commas"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="number of seeds (default 1)")
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, metavar="S", help="the first seed (default %(default)s)"
    )
    parser.add_argument("--mode", choices=MODES, default=MODES[0], help="default: %(default)s")
    parser.add_argument(
        "--mix-sample",
        type=int,
        metavar="N",
        help="let the policies know only the mix of N of the requests, the first to arrive (default: of all in the list)",
    )
    parser.add_argument("--copies", type=int, default=1, metavar="N", help="so many times the node list")
    power = parser.add_argument_group("power")
    power.add_argument("--power", type=Path, metavar="FILE", help="TOML: what device models and hosts draw")
    power.add_argument(
        "--power-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="penstock only: allocation against power, 0 (default) to 10; 0.1 saves most of what can be saved",
    )
    power.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="LEVEL=KW",
        help=f"never draw more at any {', '.join(LEVELS)}; once for each level",
    )
    power.add_argument("--nodes-per-rack", type=int, default=8, metavar="N", help="default %(default)s")
    power.add_argument("--racks-per-row", type=int, default=16, metavar="N", help="default %(default)s")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON document")
    return parser


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options; raises InvalidInputError for a number out of its range."""
    chosen = build_parser().parse_args(arguments)
    for name, most in _NUMBERS:
        if not 1 <= getattr(chosen, name.replace("-", "_")) <= most:
            raise InvalidInputError(f"--{name} must be from 1 to {most}")
    if chosen.mix_sample is not None and not 1 <= chosen.mix_sample <= TRACE_LINES_MAX:
        raise InvalidInputError(f"--mix-sample must be from 1 to {TRACE_LINES_MAX}")
    if not 0.0 <= chosen.power_weight <= 10.0:
        raise InvalidInputError("--power-weight must be from 0 to 10")
    if chosen.first_seed < 0:
        raise InvalidInputError("--first-seed must not be negative")
    return chosen


def _power(options: argparse.Namespace, models: tuple[str, ...]) -> PowerPlan | None:
    """Return how power is treated; None if nothing was asked about it and nothing is known about the models."""
    asked = options.power is not None or options.power_weight > 0 or options.budget
    try:
        facts = power_facts(models, options.power)
    except InvalidInputError:
        if asked:
            raise
        return None
    budgets: dict[str, int] = {}
    for text in options.budget:
        level, _, amount = text.partition("=")
        try:
            kilowatts = float(amount)
        except ValueError:
            kilowatts = -1.0
        if level not in LEVELS or level in budgets or not 0.0 <= kilowatts <= _KILOWATTS_MAX:
            raise InvalidInputError(
                f"--budget {text[:40]!r}: give LEVEL=KW, a level of {', '.join(LEVELS)} once, 0 to {_KILOWATTS_MAX:.0f} kW"
            )
        budgets[level] = round(kilowatts * 1_000_000)
    return PowerPlan(facts, options.power_weight, budgets, options.nodes_per_rack, options.racks_per_row)


def run(arguments: list[str]) -> int:
    """Replay and print; raises InvalidInputError with a sentence for the person who called."""
    options = _parse(arguments)
    policies = chosen(options.policy)
    fleet = read_nodes(options.nodes)
    workload = read_pods(options.pods, fleet)
    mix = mix_of(workload.shapes, workload.rows)
    study = Study(mix, typical_of(mix), time.process_time, _power(options, fleet.models))
    outcomes: list[Outcome] = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        coming = arrivals(fleet, workload, seed, options.copies)
        known = study
        if options.mix_sample is not None:
            seen = np.array(coming.shapes[: options.mix_sample], dtype=np.int64)
            known = replace(study, mix=mix_of(workload.shapes, seen))
        outcomes.extend(replay(Setting(policy, options.mode, seed), known, coming) for policy in policies)
    results = [outcome.to_json() for outcome in outcomes]
    if options.json:
        document: dict[str, object] = {"results": results}
        if study.power is not None:
            document["power_assumed_for"] = list(study.power.facts.assumed)
        print(json.dumps(document))  # noqa: T201 - the document that was asked for
    else:
        for outcome, result in zip(outcomes, results, strict=True):
            result["kw_mean"] = outcome.power.kw_mean if outcome.power else ""
        _show(results)
    return 0


_COLUMNS = {
    "policy": "policy",
    "seed": "seed",
    "alloc_pct_100": "% at\n100 %",
    "alloc_pct_130": "% at\n130 %",
    "frag_pct": "frag\n%",
    "refused": "refused",
    "migrations": "moved",
    "kw_mean": "mean\nkW",
    "decisions_per_cpu_s": "per\nCPU s",
}


def _show(results: list[dict[str, object]]) -> None:
    table = Table()
    for title in _COLUMNS.values():
        table.add_column(title, no_wrap=True)
    for result in results:
        table.add_row(*(str(result.get(column, "")) for column in _COLUMNS))
    Console().print(table)
