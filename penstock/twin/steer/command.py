"""`penstock twin steer`: premium GPU-hours saved by steering orders to the cheapest class that meets their needs."""

import argparse
import json
from pathlib import Path

from penstock.base.errors import InvalidInputError
from penstock.twin.steer.fleet import MixedFleet, read_classes, read_nodes
from penstock.twin.steer.load import PROFILES, orders_for, parse_profiles, read_shapes
from penstock.twin.steer.replay import Course, FirstFit, Penstock, mean, replay

POLICIES = ("first-fit", "penstock")
HOURS_MAX = 24 * 60


def run(arguments: list[str]) -> int:
    """Run the study and print it; InvalidInputError names what cannot be read or simulated."""
    options = build_parser().parse_args(arguments)
    _within("seeds", options.seeds, 1, 100)
    _within("load", options.load, 0.05, 3)
    _within("hours", options.hours, 1, HOURS_MAX)
    _within("warmup-hours", options.warmup_hours, 0, options.hours - 0.5)
    mixed = read_nodes(Path(options.nodes), read_classes(Path(options.classes) if options.classes else None))
    profiles = parse_profiles(options.needs)
    shapes = read_shapes(Path(options.jobs)) if options.jobs else None
    results: list[dict[str, object]] = []
    for seed in range(1, options.seeds + 1):
        orders = orders_for(
            profiles, shapes, gpus=mixed.gpus, load=options.load, hours=options.hours, seed=seed
        )
        for name in POLICIES:
            judge = Penstock(mixed)
            policy = judge if name == "penstock" else FirstFit(mixed, judge)
            window = (options.warmup_hours * 3600, options.hours * 3600)
            course = replay(mixed, policy, judge, orders, *window)
            results.append({"policy": name, "seed": seed, "orders": len(orders), **_figures(mixed, course)})
    document = {
        "fleet": _fleet(mixed),
        "load": {
            "simulated_needs": options.needs,
            "sizes_and_durations": options.jobs or "simulated",
            "load": options.load,
            "hours": options.hours,
            "warmup_hours": options.warmup_hours,
        },
        "results": results,
        "summary": _summary(results),
    }
    print(json.dumps(document) if options.json else _text(document["fleet"], document["summary"]))  # noqa: T201 - the answer
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="penstock twin steer",
        description="Orders with simulated needs on a mixed fleet: steering by need against class-blind first fit. Both "
        "meet every need; prices are assumed (see --classes).",
    )
    parser.add_argument(
        "--nodes", required=True, help="node list: gpu_model,gpu_capacity_num,cpu_num,node_name"
    )
    parser.add_argument(
        "--jobs", help="sizes and durations: submit_s,duration_s,num_gpus,vc; without it simulated"
    )
    parser.add_argument(
        "--classes", help="facts and prices of the models of the list, TOML; the shipped ones else"
    )
    parser.add_argument(
        "--needs",
        default=PROFILES,
        help="NAME:WEIGHT:MEMORY_GIB:LINK_GB_PER_S:TFLOPS:COMPUTES,... (simulated)",
    )
    parser.add_argument(
        "--load", type=float, default=0.6, help="GPU-hours asked for per GPU-hour of the fleet"
    )
    parser.add_argument("--hours", type=float, default=72, help="simulated hours, with the warm-up")
    parser.add_argument("--warmup-hours", type=float, default=24, help="hours at the start that do not count")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 1 to N (default 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidInputError(f"--{name} is from {low:g} to {high:g}, not {value:g}", field=name)


def _fleet(mixed: MixedFleet) -> dict[str, object]:
    by_class: dict[str, int] = {}
    for node in mixed.nodes:
        by_class[node.device_class] = by_class.get(node.device_class, 0) + node.gpus
    return {
        "gpus": mixed.gpus,
        "gpus_by_class": by_class,
        "premium": sorted(name for name in by_class if mixed.classes[name].premium),
        "assumed_eur_per_gpu_hour": {
            name: mixed.classes[name].microeur_per_gpu_hour / 1_000_000 for name in sorted(by_class)
        },
        "left_out_gpus": mixed.left_out,
    }


def _figures(mixed: MixedFleet, course: Course) -> dict[str, object]:
    hours: dict[str, float] = {}
    cost = 0.0
    for (name, _), gpu_s in course.gpu_s.items():
        hours[name] = hours.get(name, 0.0) + gpu_s / 3600
        cost += gpu_s / 3600 * mixed.classes[name].microeur_per_gpu_hour / 1_000_000
    premium = sum(value for name, value in hours.items() if mixed.classes[name].premium)
    return {
        "premium_gpu_hours": round(premium, 1),
        "premium_gpu_hours_without_need": round(course.premium_without_need_gpu_s / 3600, 1),
        "gpu_hours_by_class": {name: round(value, 1) for name, value in sorted(hours.items())},
        "assumed_cost_eur": round(cost),
        "completed": course.completed,
        "waiting": course.waiting,
        "mean_wait_h": {name: round(mean(waits), 3) for name, waits in sorted(course.waits_h.items())},
    }


def _summary(results: list[dict[str, object]]) -> dict[str, object]:
    def of(policy: str, field: str) -> float:
        return mean([float(str(one[field])) for one in results if one["policy"] == policy])

    blind, ours = (of(name, "premium_gpu_hours_without_need") for name in POLICIES)
    used, cost = of("first-fit", "premium_gpu_hours"), of("first-fit", "assumed_cost_eur")
    return {
        "premium_gpu_hours_saved": round(blind - ours, 1),
        "premium_gpu_hours_saved_pct": round(100 * (blind - ours) / used, 2) if used else 0.0,
        "premium_gpu_hours_without_need": {"first-fit": round(blind, 1), "penstock": round(ours, 1)},
        "assumed_cost_saved_pct": round(100 * (cost - of("penstock", "assumed_cost_eur")) / cost, 2)
        if cost
        else 0.0,
        "completed": {name: round(of(name, "completed"), 1) for name in POLICIES},
    }


def _text(fleet: object, summary: object) -> str:
    return "\n".join(
        f"{name:32}{value}"
        for part in (fleet, summary)
        if isinstance(part, dict)
        for name, value in part.items()  # pyright: ignore[reportUnknownVariableType] - printed as they are
    )
