"""`penstock twin place`: the arguments, the replays, and their results as JSON or as a table."""

import argparse
import json
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from penstock.base.errors import InvalidInputError
from penstock.base.limits import TWIN_COPIES_MAX, TWIN_SEEDS_MAX
from penstock.scheduler.packing.fragment import typical_of
from penstock.scheduler.packing.shape import mix_of
from penstock.twin.place.arrivals import arrivals
from penstock.twin.place.policies import POLICIES, chosen
from penstock.twin.place.replay import MODES, Outcome, Setting, replay
from penstock.twin.place.traces import read_nodes, read_pods

FIRST_SEED = 42  # of the FGD study
EPILOG = """\
examples:
  penstock twin place --nodes nodes.csv --pods pods.csv.gz --policy fgd,penstock --seeds 3
  penstock twin place --nodes nodes.csv --pods pods.csv.gz --policy penstock --mode defragment --json
"""


def _parse(arguments: list[str]) -> argparse.Namespace:
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
    parser.add_argument("--copies", type=int, default=1, metavar="N", help="so many times the node list")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON document")
    chosen = parser.parse_args(arguments)
    for name, most in (("seeds", TWIN_SEEDS_MAX), ("copies", TWIN_COPIES_MAX)):
        if not 1 <= getattr(chosen, name) <= most:
            raise InvalidInputError(f"--{name} must be from 1 to {most}")
    if chosen.first_seed < 0:
        raise InvalidInputError("--first-seed must not be negative")
    return chosen


def run(arguments: list[str]) -> int:
    """Replay and print; raises InvalidInputError with a sentence for the person who called."""
    options = _parse(arguments)
    policies = chosen(options.policy)
    fleet = read_nodes(options.nodes)
    workload = read_pods(options.pods, fleet)
    mix = mix_of(workload.shapes, workload.rows)
    typical = typical_of(mix)
    outcomes: list[Outcome] = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        coming = arrivals(fleet, workload, seed, options.copies)
        outcomes.extend(
            replay(Setting(policy, options.mode, seed), mix, typical, coming, time.process_time)
            for policy in policies
        )
    results = [outcome.to_json() for outcome in outcomes]
    if options.json:
        print(json.dumps({"results": results}))  # noqa: T201 - the document that was asked for
    else:
        _show(results)
    return 0


_COLUMNS = {
    "policy": "policy",
    "seed": "seed",
    "alloc_pct_100": "alloc\nat 100 %",
    "alloc_pct_130": "alloc\nat 130 %",
    "frag_pct": "frag-\nment %",
    "refused": "refused",
    "migrations": "moved",
    "decisions_per_cpu_s": "decisions\nper CPU s",
}


def _show(results: list[dict[str, object]]) -> None:
    table = Table(*_COLUMNS.values())
    for result in results:
        table.add_row(*(str(result[column]) for column in _COLUMNS))
    Console().print(table)
