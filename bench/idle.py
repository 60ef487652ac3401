"""What a factory costs that has nothing to do: memory and CPU of every process, with 1,008 simulated devices.

    python -m bench.idle [--quick]

Each run starts the factory of `penstock up` in a fresh data folder, demonstration endpoint included, waits
until the endpoint has answered and ten seconds more, and looks at a window of thirty. Memory is the kernel's
proportional share (PSS), which counts a shared page once; the sum of RSS counts it in every process.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import support

RUNS = 3
SETTLE_SECONDS = 10.0
WINDOW_SECONDS = 30.0
DEMO_SECONDS = 120.0
SITE = "nvl72"
PEER: dict[str, Any] = {"drivers_rss_mb": 320}


def answered(factory: support.Factory) -> bool:
    """Tell whether the demonstration endpoint has given its first token."""
    with factory.client(factory.keys().demo) as client:
        items = client.get("/v1/services", params={"kind": "llm"}).raise_for_status().json()["items"]
    return any(item["order_to_first_token_seconds"] is not None for item in items)


def one_run(settle_s: float, window_s: float) -> dict[str, Any]:
    """Measure one start; figures of the whole, and of each part by its name."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-idle-") as text,
        support.Factory(Path(text), simulated=SITE, demo=True) as factory,
    ):
        support.until(lambda: answered(factory), DEMO_SECONDS, "the demonstration endpoint answers")
        support.pause(settle_s)
        before, began = factory.use(), time.monotonic()
        support.pause(window_s)
        after, elapsed = factory.use(), time.monotonic() - began
    spent = support.cpu_between(before, after)
    parts = {part: figures_of(use, spent[part], elapsed) for part, use in after.items()}
    whole = {
        name: round(sum(part[name] for part in parts.values()), 2) for name in next(iter(parts.values()))
    }
    return {"whole": whole, **parts}


def figures_of(use: support.Use, cpu_s: float, elapsed_s: float) -> dict[str, float]:
    """Return the figures of one part."""
    return {
        "processes": use.processes,
        "pss_mb": support.megabytes(use.pss_bytes),
        "rss_mb": support.megabytes(use.rss_bytes),
        "cpu_percent_of_core": round(100 * cpu_s / elapsed_s, 2),
    }


def report(runs: list[Mapping[str, Mapping[str, float]]], window_s: float) -> None:
    """Print one line for the whole factory and one for each of its parts."""
    for part in runs[0]:
        case = "whole factory, with PostgreSQL and one endpoint" if part == "whole" else part
        support.emit("idle", case, window_s=window_s, **support.medians([run[part] for run in runs]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short window, to see that the bench works")
    options = parser.parse_args()
    settle_s, window_s = (2.0, 5.0) if options.quick else (SETTLE_SECONDS, WINDOW_SECONDS)
    runs: list[Mapping[str, Mapping[str, float]]] = []
    for _ in range(1 if options.quick else RUNS):
        runs.append(one_run(settle_s, window_s))
        print(f"one run: {runs[-1]['whole']}", file=sys.stderr, flush=True)
    report(runs, window_s)
    support.emit("idle", f"{support.PEER}: its drivers alone", **PEER)


if __name__ == "__main__":
    main()
