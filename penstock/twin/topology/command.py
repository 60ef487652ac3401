"""`penstock twin topology`: what the shape of gangs costs in occupancy, on a simulated site of NVLink racks."""

import argparse
import json

from penstock.base.errors import InvalidInputError
from penstock.domain.claim import Level
from penstock.twin.topology.mix import LOG_UNIFORM, parse_mix
from penstock.twin.topology.policy import POLICIES
from penstock.twin.topology.site import SiteShape
from penstock.twin.topology.study import Settings, as_record, churn_singles, fill, keep_full, summary

SEEDS_MAX = 100
HOURS_MAX = 24 * 60
RACKS_MAX = 2_000
STUDIES = ("full", "fill", "singles")


def run(arguments: list[str]) -> int:
    """Run the studies and print them; InvalidInputError names what cannot be simulated."""
    options = build_parser().parse_args(arguments)
    settings = _settings(options)
    policies = _chosen(options.policy, POLICIES, "policy")
    studies = _chosen(options.study, STUDIES, "study")
    loads = [_load(text) for text in options.loads.split(",")]
    records: list[dict[str, object]] = []
    for seed in range(1, options.seeds + 1):
        for policy in policies:
            if "fill" in studies:
                records.append(as_record("fill", fill(settings, policy, seed)))
            if "full" in studies:
                records += [as_record("full", keep_full(settings, policy, load, seed)) for load in loads]
            if "singles" in studies:
                records.append(as_record("singles", churn_singles(settings, policy, seed)))
    means = summary(records)
    if options.json:
        document = {"site": _site(settings), "results": records, "summary": means}
        print(json.dumps(document))  # noqa: T201 - the answer
    else:
        _show(settings, means)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="penstock twin topology",
        description="Simulated: a site of NVLink racks under a load of gangs. Every order of more than one device asks "
        "for the fewest NVLink domains that can hold it. 'blind' ignores shapes: the most that could be held.",
    )
    parser.add_argument("--racks", type=int, default=70, help="racks of the site (default 70)")
    parser.add_argument("--nodes-per-rack", type=int, default=18, help="default 18, as in an NVL72")
    parser.add_argument("--gpus-per-node", type=int, default=4, help="default 4, as in an NVL72")
    parser.add_argument("--racks-per-leaf", type=int, default=8, help="default 8")
    parser.add_argument("--leaves-per-pod", type=int, default=4, help="default 4")
    parser.add_argument(
        "--within",
        choices=[level.value for level in Level],
        help="orders of several domains must be in one of these",
    )
    parser.add_argument(
        "--mix", default="steps", help=f"'steps', '{LOG_UNIFORM}' or SIZE:WEIGHT,... (default steps)"
    )
    parser.add_argument("--policy", default=",".join(POLICIES), help=f"some of {', '.join(POLICIES)}")
    parser.add_argument("--study", default=",".join(STUDIES), help=f"some of {', '.join(STUDIES)}")
    parser.add_argument("--loads", default="0.9,1.0,1.3", help="GPU-hours asked for per GPU-hour of the site")
    parser.add_argument("--hours", type=float, default=96, help="simulated hours, with the warm-up")
    parser.add_argument("--warmup-hours", type=float, default=24, help="hours at the start that do not count")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 1 to N (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    _within("racks", options.racks, 1, RACKS_MAX)
    _within("nodes-per-rack", options.nodes_per_rack, 1, 72)
    _within("gpus-per-node", options.gpus_per_node, 1, 16)
    _within("racks-per-leaf", options.racks_per_leaf, 1, RACKS_MAX)
    _within("leaves-per-pod", options.leaves_per_pod, 1, RACKS_MAX)
    _within("seeds", options.seeds, 1, SEEDS_MAX)
    _within("hours", options.hours, 1, HOURS_MAX)
    _within("warmup-hours", options.warmup_hours, 0, options.hours - 0.5)
    shape = SiteShape(
        options.racks,
        options.nodes_per_rack,
        options.gpus_per_node,
        options.racks_per_leaf,
        options.leaves_per_pod,
    )
    mix = parse_mix(options.mix, shape.rack_gpus, shape.racks)
    within = Level(options.within) if options.within else None
    settings = Settings(shape, mix, options.hours, options.warmup_hours, within)
    racks = max(len(area) for area in settings.areas())
    largest = max(mix.sizes)
    if largest > shape.rack_gpus and largest > racks * shape.rack_gpus:
        raise InvalidInputError(
            f"an order of {largest} is more than one {options.within} of {racks * shape.rack_gpus} holds; "
            "leave --within out or take a smaller mix",
            field="within",
        )
    return settings


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidInputError(f"--{name} is from {low:g} to {high:g}, not {value:g}", field=name)


def _chosen(text: str, known: tuple[str, ...], field: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise InvalidInputError(
                f"there is no {field} '{name}'; there are: {', '.join(known)}", field=field
            )
    return [name for name in known if name in names]


def _load(text: str) -> float:
    try:
        load = float(text)
    except ValueError:
        load = 0.0
    if not 0.05 <= load <= 5:
        raise InvalidInputError(f"a load is a number from 0.05 to 5, not '{text}'", field="loads")
    return load


def _site(settings: Settings) -> dict[str, object]:
    shape = settings.shape
    return {
        "simulated": True,
        "racks": shape.racks,
        "gpus": shape.gpus,
        "domain_gpus": shape.rack_gpus,
        "mix": settings.mix.name,
        "mean_gpus": round(settings.mix.mean_gpus, 2),
        "within": settings.within,
        "hours": settings.hours,
        "warmup_hours": settings.warmup_hours,
    }


def _show(settings: Settings, means: list[dict[str, object]]) -> None:
    shape, mix = settings.shape, settings.mix.name
    lines = [f"simulated site: {shape.racks} racks of {shape.rack_gpus}, {shape.gpus} GPUs; mix {mix}"]
    for line in means:
        shown = {name: value for name, value in line.items() if name not in ("study", "policy", "seeds")}
        text = "  ".join(f"{name} {value}" for name, value in shown.items())
        lines.append(f"{line['study']!s:8}{line['policy']!s:16}{text}")
    print("\n".join(lines))  # noqa: T201 - the answer
