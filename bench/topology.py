"""What keeping the shape of gangs costs: `penstock twin topology` on 70 simulated NVL72 racks, mix 1 to 576.

    python -m bench.topology [--quick]

The peer beside every line is `blind`, which ignores shapes and so holds the most that can be held, in the same
run under the same orders; `best-fit` keeps the shapes and chooses racks plainly (`penstock twin topology` knows two more
such). Three seeds and three policies are a sample that takes about two minutes.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

from bench import support

SEEDS, HOURS = 3, 96
POLICIES = "blind,penstock,best-fit"


def study(*arguments: str) -> list[dict[str, Any]]:
    """Return the summary that the command prints."""
    command = [sys.executable, "-m", "penstock", "twin", "topology", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary: list[dict[str, Any]] = json.loads(done.stdout)["summary"]
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="one seed and half the time, to see that it works"
    )
    options = parser.parse_args()
    seeds, hours = (1, HOURS // 2) if options.quick else (SEEDS, HOURS)
    lines = study("--seeds", str(seeds), "--hours", str(hours), "--policy", POLICIES)
    for line in lines:
        load = f", load {line['load']}" if "load" in line else ""
        figures = {name: value for name, value in line.items() if name not in ("study", "policy", "load")}
        support.emit("topology", f"{line['study']}{load}: {line['policy']}", **figures)
    ours = [line for line in lines if line["policy"] == "penstock" and line["study"] == "full"]
    lost = [float(line["lost_points"]) for line in ours]
    support.emit(
        "topology",
        "all loads: penstock",
        lost_points=round(sum(lost) / len(lost), 3),
        worst_load_lost_points=max(lost),
    )


if __name__ == "__main__":
    main()
