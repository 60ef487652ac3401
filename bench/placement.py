"""Decisions a second of the planner: one at a time and in batches, at 8,000 and at 100,000 devices.

Prints one JSON line per case. A decision is a whole one: filters, score, topology, the verdict of ``fits``,
reasons, and marking the fleet. The fleet starts empty and fills by at most half.
"""

import argparse
import json
import random
import statistics
import time

from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import Ask, DeviceState, Level, NodeState
from penstock.domain.device import load_device_classes
from penstock.domain.power_budget import PowerBudget, PowerLevel
from penstock.scheduler import Fleet, Plan, place, place_many

CLASSES = load_device_classes()
BATCH = 256


def fleet_of(nodes: int, per_node: int, nodes_per_domain: int, device_class: str) -> Fleet:
    kind = CLASSES[device_class]
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes(
        NodeState(
            node_id=f"node-{number:06d}",
            schedulable=True,
            memory_bytes=1024 * BYTES_PER_GIB,
            memory_used_bytes=0,
            cpu_millis=128_000,
            cpu_used_millis=0,
            drivers=frozenset({"simulated"}),
            architecture="x86_64",
            site_id="site",
            rack_id=f"rack-{number // nodes_per_domain}",
            leaf=f"leaf-{number // nodes_per_domain // 8}",
            pod=f"pod-{number // nodes_per_domain // 64}",
        )
        for number in range(nodes)
    )
    fleet.upsert_devices(
        DeviceState(
            device_id=f"device-{number:06d}-{position}",
            node_id=f"node-{number:06d}",
            device_class=device_class,
            slices=kind.slices,
            memory_bytes=kind.memory_bytes,
            slice_memory_bytes=kind.slice_memory_bytes,
            used_mask=0,
            healthy=True,
            nvlink_domain=f"domain-{number // nodes_per_domain:05d}",
            numa_node=2 * position // per_node,
        )
        for number in range(nodes)
        for position in range(per_node)
    )
    return fleet


def limit(fleet: Fleet, nodes_per_domain: int) -> None:
    """Give every rack and the site a power budget: room for all, for half, or for one device more, by rack.

    What is held is taken as nothing before the first claim: only what claims add counts here.
    """
    kind = CLASSES["GB200"]
    racks = sorted({fleet.node_at(row).rack_id or "" for row in range(fleet.node_count)})
    most_mw = nodes_per_domain * 4 * (kind.load_mw - kind.idle_mw)
    shares = (1.0, 1.0, 0.5, 1 / 72)
    fleet.limit(
        PowerBudget(f"pbu-{rack}", PowerLevel.RACK, rack, rack, int(most_mw * shares[number % 4]), 0)
        for number, rack in enumerate(racks)
    )
    fleet.limit([PowerBudget("pbu-site", PowerLevel.SITE, "site", "site", most_mw * len(racks) // 2, 0)])


def asks_of(mix: str, count: int, device_class: str) -> list[Ask]:
    def one(devices: int, slices: int = 0) -> Ask:
        return Ask(
            count=devices,
            device_class=device_class,
            slices=slices,
            same_nvlink_domain=slices == 0 and devices > 1,
            node_memory_bytes=8 * BYTES_PER_GIB,
            node_cpu_millis=4_000,
        )

    source = random.Random(7)  # noqa: S311 - a reproducible load, not a secret
    if mix == "single":
        return [one(1)] * count
    if mix == "gangs":
        return [gang(source, device_class) for _ in range(count)]
    return [
        one(source.choice((1, 1, 1, 1, 2, 4, 8))) if source.random() < 0.8 else one(1, source.randint(1, 4))
        for _ in range(count)
    ]


def gang(source: random.Random, device_class: str) -> Ask:
    """Return an order of 1 to 576 in few domains, every third one within a leaf or pod."""
    size = source.choice((1, 2, 4, 8, 8, 16, 32, 72, 100, 144, 288, 576))
    within = source.choice((None, None, Level.LEAF if size <= 288 else Level.POD))
    return Ask(size, device_class, domains_max=-(-size // 72), within=within if size > 1 else None)


def run_case(case: str, fleet: Fleet, asks: list[Ask], *, batch: bool) -> dict[str, object]:
    decision_s: list[float] = []
    decisions = []
    place(fleet, asks[0])  # the first look at a class is paid once per start, not per decision
    started, started_cpu = time.perf_counter(), time.process_time()
    if batch:
        for first in range(0, len(asks), BATCH):
            decisions.extend(place_many(fleet, asks[first : first + BATCH]))
    else:
        for ask in asks:
            before = time.perf_counter()
            decision = place(fleet, ask)
            decision_s.append(time.perf_counter() - before)
            if isinstance(decision, Plan):
                fleet.apply(decision.grants)
            decisions.append(decision)
    elapsed, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    placed = [decision for decision in decisions if isinstance(decision, Plan)]
    for decision in placed:
        fleet.revert(decision.grants)
    figure: dict[str, object] = {
        "bench": "placement",
        "case": case,
        "devices": fleet.device_count,
        "decisions": len(asks),
        "placed": len(placed),
        "decisions_per_s": round(len(asks) / elapsed),
        "decisions_per_cpu_s": round(len(asks) / cpu),
    }
    if decision_s:
        figure["place_p99_ms"] = round(1000 * statistics.quantiles(decision_s, n=100)[98], 3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each case; the median is printed")
    parser.add_argument("--decisions", type=int, default=2_000)
    arguments = parser.parse_args()
    for nodes, per_node, nodes_per_domain, device_class in ((1_000, 8, 1, "H100"), (25_000, 4, 18, "GB200")):
        fleet = fleet_of(nodes, per_node, nodes_per_domain, device_class)
        mixes = ("single", "mixed") if per_node == 8 else ("single", "mixed", "gangs")
        for mix in mixes:
            decisions = arguments.decisions // 4 if mix == "gangs" else arguments.decisions  # not to fill it
            asks = asks_of(mix, decisions, device_class)
            for batch in (False, True):
                orders = "gangs in shapes" if mix == "gangs" else f"{mix} orders"
                case = f"{orders}, {'batches of 256' if batch else 'one at a time'}"
                figures = [run_case(case, fleet, asks, batch=batch) for _ in range(arguments.runs)]
                print(json.dumps(median(figures)), flush=True)
    limit(fleet, nodes_per_domain)
    for mix, share in (("mixed orders", 2), ("gangs in shapes", 4)):
        asks = asks_of(mix.split()[0], arguments.decisions // share, device_class)
        case = f"{mix} under power budgets, one at a time"
        print(json.dumps(median([run_case(case, fleet, asks, batch=False) for _ in range(arguments.runs)])))


def median(figures: list[dict[str, object]]) -> dict[str, object]:
    """Return the line of the middle run."""
    return sorted(figures, key=lambda figure: str(figure["decisions_per_s"]).zfill(9))[len(figures) // 2]


if __name__ == "__main__":
    main()
