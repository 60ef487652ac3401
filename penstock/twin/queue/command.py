"""`penstock twin queue`: what the command line takes and what it prints."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Rules
from penstock.twin.queue.measure import Result
from penstock.twin.queue.policies import POLICIES, Study, run_study
from penstock.twin.queue.trace import read_jobs, read_shares

_EPILOG = """\
JOBS is CSV, plain or .gz: submit_s,duration_s,num_gpus, the queue as vc or queue (tenant or tenant/project), and if
wanted checkpoint_s. SHARES is CSV: queue,guaranteed_gpus[,limit_gpus] or vc,nodes. Without it every tenant is
guaranteed the same, and static-split divides the nodes by the work that is going to come.
easy, conservative and static-split are told how long a job will run; predicted-shortest and penstock are not.
docs/reference/queueing.md explains the policies and the figures."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="penstock twin queue",
        description="Gang jobs with durations on whole-GPU nodes: waits, makespan, utilisation by policy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, most_s = parser.add_argument, limits.TWIN_SECONDS_MAX
    add("--jobs", type=Path, required=True, metavar="JOBS", help="the trace")
    add("--nodes", type=_between(1, limits.TWIN_NODES_MAX), required=True, help="nodes of the cluster")
    add("--gpus-per-node", type=_between(1, limits.TWIN_GPUS_PER_NODE_MAX), default=8)
    add("--policy", type=_policies, required=True, metavar="NAME[,NAME...]", help=", ".join(POLICIES))
    add("--quotas", type=Path, metavar="SHARES", help="what each queue is guaranteed")
    add("--from-s", type=_between(0, most_s), default=0, help="leave out jobs submitted before")
    add("--until-s", type=_between(0, most_s), default=most_s, help="leave out jobs submitted from then on")
    add(
        "--checkpoint-s",
        type=_between(0, most_s),
        default=1_800,
        help="how often a job saves its work where the trace does not say (default 1800; 0: never)",
    )
    rules = Rules()
    add(
        "--resume-s", type=_between(0, most_s), default=rules.resume_s, help="what loading a checkpoint costs"
    )
    add(
        "--reclaim-bound-s",
        type=_between(1, most_s),
        default=rules.bound_s,
        help="guarantees are back by then",
    )
    add("--json", action="store_true", help="print JSON")
    return parser


def _between(least: int, most: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not {least} to {most:,}")
        return value

    return whole_number


def _policies(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in POLICIES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no policy '{unknown[0]}'; there are {', '.join(POLICIES)}")
    return names


def run(arguments: list[str]) -> int:
    """Run the study and print its results; return the exit code."""
    given = build_parser().parse_args(arguments)
    if given.from_s >= given.until_s:
        raise InvalidInputError("--from-s must be before --until-s")
    capacity = given.nodes * given.gpus_per_node
    window_s = (given.from_s, given.until_s)
    jobs = read_jobs(given.jobs, capacity=capacity, checkpoint_s=given.checkpoint_s, window_s=window_s)
    shares = read_shares(given.quotas, given.gpus_per_node) if given.quotas else []
    bound_s = given.reclaim_bound_s
    rules = Rules(resume_s=given.resume_s, bound_s=bound_s, patience_s=min(Rules().patience_s, bound_s))
    study = Study(jobs, given.nodes, given.gpus_per_node, shares, rules)
    results = [run_study(study, policy) for policy in given.policy]
    if given.json:
        print(json.dumps({"results": [result.to_json() for result in results]}))  # noqa: T201 - the answer
    else:
        Console().print(_table(results))
    return 0


def _table(results: list[Result]) -> Table:
    first = results[0]
    table = Table(
        Column("policy", no_wrap=True),
        *("mean h", "median h", "p99 h", "8+ GPUs h", "days", "util %", "lost GPU-h", "stops"),
        title=f"{first.jobs:,} jobs on {first.gpus:,} GPUs: waits, makespan, utilisation",
        box=None,
    )
    for result in results:
        large = result.mean_wait_h_ge8
        table.add_row(
            result.policy,
            f"{result.mean_wait_h:.3f}",
            f"{result.median_wait_h:.3f}",
            f"{result.p99_wait_h:.2f}",
            "-" if large is None else f"{large:.3f}",
            f"{result.makespan_d:.2f}",
            f"{result.utilisation_pct:.2f}",
            f"{result.lost_gpu_h:,.0f}",
            f"{result.stops:,}",
        )
    return table
