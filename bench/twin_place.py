"""Allocation of `penstock twin place` by policy and list, with the published figures, and decisions a second.

Reads the openb traces beside the repository; without them it prints one line that says so. Five seeds per
list; the lines hold means. Speed is measured one seed at a time, set-up included.
"""

import csv
import gzip
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from penstock.scheduler.packing.fragment import typical_of
from penstock.scheduler.packing.shape import mix_of
from penstock.twin.place.arrivals import arrivals
from penstock.twin.place.policies import POLICIES
from penstock.twin.place.power import PowerPlan, power_facts
from penstock.twin.place.replay import DEFRAGMENT, ONE_SHOT, Outcome, Setting, Study, replay
from penstock.twin.place.traces import read_nodes, read_pods

TRACES = Path(__file__).parents[2] / "shared" / "traces" / "openb"
LISTS = ("default", "gpushare60", "multigpu30", "gpuspec20")
SEEDS = range(42, 44)  # a sample, so that all of it takes about two minutes; --seeds 5 takes more
COPIES = 16
POWER_WEIGHT = 0.1
SAMPLE = 1_000
PUBLISHED = {
    "random": "01-Random",
    "dot-product": "02-DotProd",
    "packing": "04-GpuPacking",
    "best-fit": "05-BestFit",
    "fgd": "06-FGD",
}


def replays(
    name: str, policy: str, mode: str, seeds: range, copies: int = 1, weight: float = 0.0, sample: int = 0
) -> list[Outcome]:
    fleet = read_nodes(TRACES / "openb_node_list_gpu_node.csv")
    work = read_pods(TRACES / f"openb_pod_list_{name}.csv.gz", fleet)
    mix = mix_of(work.shapes, work.rows)
    study = Study(mix, typical_of(mix), time.process_time, PowerPlan(power_facts(fleet.models), weight))
    outcomes: list[Outcome] = []
    for seed in seeds:
        coming = arrivals(fleet, work, seed, copies)
        seen = mix_of(work.shapes, np.array(coming.shapes[:sample], dtype=np.int64)) if sample else mix
        outcomes.append(replay(Setting(policy, mode, seed), replace(study, mix=seen), coming))
    return outcomes


def mean(outcomes: list[Outcome], field: str) -> float:
    return round(statistics.mean(float(str(one.to_json()[field])) for one in outcomes), 2)


def published() -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    with gzip.open(TRACES / "published_fgd_results.csv.gz", "rt") as lines:
        for line in csv.DictReader(lines):
            if line["metric"] == "alloc_pct":
                found.setdefault((line["workload"], line["policy"]), []).append(float(line["130"]))
    return {key: round(statistics.mean(values), 2) for key, values in found.items()}


def emit(**fields: object) -> None:
    print(json.dumps({"bench": "twin_place", **fields}), flush=True)


def allocation() -> None:
    known = published()
    ours: dict[str, list[float]] = {"fgd": [], "penstock": []}
    for name in LISTS:
        for policy in POLICIES:
            outcomes = replays(name, policy, ONE_SHOT, SEEDS)
            alloc = mean(outcomes, "alloc_pct_130")
            emit(
                case=f"{name}, {policy}",
                alloc_pct_130=alloc,
                alloc_pct_100=mean(outcomes, "alloc_pct_100"),
                frag_pct=mean(outcomes, "frag_pct"),
                first_refused_at_pct=mean(outcomes, "first_refused_at_pct"),
                published_alloc_pct_130=known.get((f"openb_pod_list_{name}", PUBLISHED.get(policy, ""))),
                decisions_per_cpu_s=round(mean(outcomes, "decisions_per_cpu_s")),
                seeds=len(SEEDS),
            )
            if policy in ours:
                ours[policy].append(alloc)
    gains = [mine - fgd for mine, fgd in zip(ours["penstock"], ours["fgd"], strict=True)]
    emit(
        case="penstock over fgd",
        gain_points_mean=round(statistics.mean(gains), 2),
        gain_points_least=round(min(gains), 2),
    )
    for name in LISTS:
        outcomes = replays(name, "penstock", ONE_SHOT, SEEDS, sample=SAMPLE)
        emit(
            case=f"{name}, penstock, mix of {SAMPLE:,} arrivals",
            alloc_pct_130=mean(outcomes, "alloc_pct_130"),
        )
        outcomes = replays(name, "penstock", DEFRAGMENT, SEEDS)
        emit(
            case=f"{name}, penstock, defragment",
            **{
                field: mean(outcomes, field)
                for field in ("alloc_pct_130", "migrations", "moved_gpu_pct", "moved_gpu_s", "held")
            },
        )


def power() -> None:
    """Power by load against FGD, which as published leaves unused nodes on; and if it turned them off, too."""
    for name in LISTS:
        fgd, ours = (
            replays(name, policy, ONE_SHOT, SEEDS, weight=weight)
            for policy, weight in (("fgd", 0.0), ("penstock", POWER_WEIGHT))
        )
        on, off, mine = (
            statistics.mean(getattr(one.power, field) for one in outcomes if one.power)
            for outcomes, field in ((fgd, "kw_mean_always_on"), (fgd, "kw_mean"), (ours, "kw_mean"))
        )
        emit(
            case=f"{name}, power",
            power_weight=POWER_WEIGHT,
            kw_mean=round(mine, 1),
            fgd_kw_mean=round(on, 1),
            fgd_nodes_off_kw_mean=round(off, 1),
            saved_pct=round(100 - 100 * mine / on, 1),
            saved_pct_if_fgd_turned_nodes_off=round(100 - 100 * mine / off, 1),
            alloc_pct_130=mean(ours, "alloc_pct_130"),
            fgd_alloc_pct_130=mean(fgd, "alloc_pct_130"),
        )


def speed() -> None:
    for copies in (1, COPIES):
        rates = [
            float(
                str(
                    replays("default", "penstock", ONE_SHOT, range(42, 43), copies)[0].to_json()[
                        "decisions_per_cpu_s"
                    ]
                )
            )
            for _ in range(3)
        ]
        emit(case="speed", gpus=6_212 * copies, decisions_per_cpu_s=round(statistics.median(rates)))


def main() -> None:
    if not TRACES.exists():
        emit(case="skipped", reason="the traces are not beside the repository")
        return
    allocation()
    power()
    speed()


if __name__ == "__main__":
    main()
