"""Reading with 10,000 services: one, a page of 100, the whole list, and the memory of the control plane.

    python -m bench.reads [--quick]

The services run on a simulated site with as many devices. The client is one connection in a process of its own
that reads whole answers and does not parse them within the time taken. The medians are of three rounds over one
factory; ``get_p50_ms`` is of 1,000 services in random order, ``page_100_p50_ms`` of every page of the list.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import support
from bench.orders import order_all

ROUNDS = 3
READS = 1_000
PEERS: dict[str, Any] = {"services": 10_000, "get_p50_ms": 2, "walk_s": 0.044}
PEER_MEMORY: dict[str, Any] = {"services": 10_000, "control_plane_rss_mb": 256, "drivers_rss_mb": 320}


def one_round(factory: support.Factory, ids: list[str], seed: int) -> dict[str, Any]:
    """Measure every kind of read once."""
    key = factory.keys().demo
    chosen = random.Random(seed).choices(ids, k=READS)  # noqa: S311 - a reproducible load, not a secret
    load = support.start_load(factory, key, "read", feed="\n".join(f"/v1/services/{one}" for one in chosen))
    single = support.finish_load(load)
    by_100 = support.run_load(factory, key, "walk", "--limit", "100")
    by_1000 = support.run_load(factory, key, "walk", "--limit", "1000")
    for found in (by_100, by_1000):
        if sorted(found["ids"]) != sorted(ids):
            raise SystemExit(f"a walk found {len(found['ids'])} services of {len(ids)}, or other ones")
    return {
        "get_p50_ms": single["p50_ms"],
        "get_p99_ms": single["p99_ms"],
        "page_100_p50_ms": by_100["p50_ms"],
        "page_100_p99_ms": by_100["p99_ms"],
        "walk_s": round(by_1000["walk_s"], 4),
        "walk_pages_of_100_s": round(by_100["walk_s"], 4),
        "walk_mb": support.megabytes(by_1000["bytes"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few services, to see that the bench works")
    parser.add_argument("--services", type=int, default=10_000)
    options = parser.parse_args()
    services = 400 if options.quick else options.services
    site = f"{-(-services // 8)}x8:H100"
    with (
        tempfile.TemporaryDirectory(prefix="bench-reads-") as text,
        support.Factory(Path(text), simulated=site) as factory,
    ):
        started_mb = factory.control_plane_rss_mb()
        with factory.client(factory.keys().demo) as client:
            load = order_all(factory, client, services)
        print(f"{services} services run; reading", file=sys.stderr, flush=True)
        support.pause(support.CALM_SECONDS)
        ordered_mb = factory.control_plane_rss_mb()
        rounds = [one_round(factory, load["ids"], seed) for seed in range(ROUNDS)]
        figures = support.medians(rounds)
        figures["control_plane_rss_mb"] = max(ordered_mb, factory.control_plane_rss_mb())
        figures["started_rss_mb"] = started_mb
    support.emit("reads", f"{services} services", services=services, **figures)
    support.emit("reads", f"{support.PEER}: info, and the list in one answer", **PEERS)
    support.emit("reads", f"{support.PEER}: memory, beside its drivers", **PEER_MEMORY)


if __name__ == "__main__":
    main()
