"""From order to RUNNING: `gpu` services ordered through the public API by 8 clients on 1,000 simulated nodes.

    python -m bench.orders [--quick]

Each run starts a factory in a fresh data folder. ``orders_accepted_per_s`` counts from the first POST to the
last answer, ``services_running_per_s`` from the first POST to the last service RUNNING by the API's own stamps.
Commits are durable: the bench refuses to measure where they are not, and prints how often the log was synced.
"""

import argparse
import sys
import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from bench import support
from tests.support.factory_process import demo_project, every_page

CLIENTS = 8
RUNS = 3
LONG_RUN_SECONDS = 60.0
WAIT_SECONDS = 900.0
UNSETTLED = ["queued", "starting", "degraded"]
# What the peer reached with its dummy drivers on 2 cores: its defaults, and the best settings that were found.
PEERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("defaults, 100 on 100 hosts", {"services": 100, "services_running_per_s": 3.3}),
    ("best settings, 1,000 on 100 hosts", {"services": 1000, "services_running_per_s": 15}),
    ("best settings, 1,000 on 1,000 hosts", {"services": 1000, "services_running_per_s": 2.4}),
    ("one client", {"orders_accepted_per_s": 222}),
    ("eight clients", {"orders_accepted_per_s": 387}),
)


def unsettled(client: httpx.Client) -> bool:
    """Tell whether a service is still on its way."""
    found = client.get("/v1/services", params={"state": UNSETTLED, "limit": 1}).raise_for_status().json()
    return bool(found["items"])


def order_all(factory: support.Factory, client: httpx.Client, services: int) -> dict[str, Any]:
    """Order ``services`` with 8 clients and wait until each runs; return what the load client found.

    SystemExit if one does not run.
    """
    load = support.start_load(
        factory,
        factory.keys().demo,
        "order",
        *("--project", demo_project(client), "--count", str(services), "--connections", str(CLIENTS)),
    )
    found = support.finish_load(load)
    support.until(lambda: not unsettled(client), WAIT_SECONDS, f"{services} services run")
    return found


def one_run(services: int, site: str) -> dict[str, Any]:
    """Measure one run in a fresh data folder."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-orders-") as text,
        support.Factory(Path(text), simulated=site) as factory,
    ):
        settings = support.durability(factory)
        support.pause(support.CALM_SECONDS)
        with factory.client(factory.keys().demo) as client:
            before, work_before = factory.use(), support.database_work(factory)
            load = order_all(factory, client, services)
            after, work_after = factory.use(), support.database_work(factory)
            ordered = set(load["ids"])
            rows = [row for row in every_page(client, "/v1/services") if row["id"] in ordered]
        figures = timing(rows, load, services)
        cpu = support.cpu_between(before, after)
        figures |= {
            "cpu_ms_per_service": round(1e3 * sum(cpu.values()) / services, 2),
            **{f"{part.replace(' ', '_')}_cpu_s": round(spent, 2) for part, spent in cpu.items()},
            "client_cpu_s": load["client_cpu_s"],
            "control_plane_rss_mb": factory.control_plane_rss_mb(),
            "commits": work_after[0] - work_before[0],
            "log_syncs": work_after[1] - work_before[1],
            **{f"postgres_{name}": value for name, value in settings.items()},
        }
        return figures


def timing(rows: list[dict[str, Any]], load: dict[str, Any], services: int) -> dict[str, Any]:
    """Return the rates by the services' own stamps; SystemExit unless every one of them runs."""
    states = Counter(row["state"] for row in rows)
    if states != {"running": services}:
        raise SystemExit(f"{services} services were ordered; they are {dict(states)}")
    stamps = [{phase["phase"]: phase for phase in row["phases"]} for row in rows]
    last = max(datetime.fromisoformat(stamp["running"]["at"]) for stamp in stamps)
    elapsed = (last - datetime.fromisoformat(load["first_post_at"])).total_seconds()
    waits = [stamp["running"]["seconds_since_order"] for stamp in stamps]
    return {
        "orders_accepted_per_s": round(services / load["accept_s"], 1),
        "services_running_per_s": round(services / elapsed, 1),
        "accept_p50_ms": load["p50_ms"],
        "accept_p99_ms": load["p99_ms"],
        "all_running_s": round(elapsed, 2),
        "order_to_running_p50_s": round(support.percentile(waits, 0.5), 3),
        "order_to_running_p99_s": round(support.percentile(waits, 0.99), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one small run, to see that the bench works")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--services", type=int, nargs="+", default=[1_000, 5_000])
    options = parser.parse_args()
    if options.quick:
        options.runs, options.services = 1, [200]
    site = "100x8:H100" if options.quick else "1000x8:H100"
    for services in options.services:
        runs: list[dict[str, Any]] = []
        for _ in range(options.runs):
            runs.append(one_run(services, site))
            print(f"{services} services, one run: {runs[-1]}", file=sys.stderr, flush=True)
            if runs[-1]["all_running_s"] > LONG_RUN_SECONDS:
                break  # one long run says as much as three, and `runs` says that it was one
        facts = {"services": services, "site": site, "clients": CLIENTS, "tenants": 1}
        support.emit("orders", f"{services} gpu services", **facts, **support.medians(runs))
    for case, figures in PEERS:
        support.emit("orders", f"{support.PEER}: {case}", **figures)


if __name__ == "__main__":
    main()
