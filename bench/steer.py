"""Premium GPU-hours that steering by need saves against class-blind first fit, on a public mixed fleet.

    python -m bench.steer [--quick]

The fleet is alibaba/clusterdata, cluster-trace-v2026-spot-gpu (CC-BY-4.0); sizes and durations are those of Philly,
September and October 2017 (msr-fiddle/philly-traces, CC-BY-4.0). What the orders need is simulated and prices are assumed; both are in
the output. Without the traces beside the repository nothing is measured, and the line says so.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench import support

TRACES = Path(__file__).parents[2] / "shared" / "traces"
NODES = TRACES / "alibaba_spot_2026" / "nodes.csv.gz"
JOBS = TRACES / "philly" / "philly_jobs_2017-09-04_2017-10-31.csv.gz"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="half the time, to see that it works")
    options = parser.parse_args()
    if not NODES.exists() or not JOBS.exists():
        support.emit("steer", "absent", reason="the traces are not beside the repository")
        return
    hours = "36" if options.quick else "96"
    for load in ("0.6", "0.8"):
        for case, jobs in (("simulated sizes", []), ("Philly sizes", ["--jobs", str(JOBS)])):
            command = [sys.executable, "-m", "penstock", "twin", "steer", "--json", "--nodes", str(NODES)]
            command += ["--load", load, "--hours", hours, *jobs]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            document = json.loads(done.stdout)
            figures = document["summary"] | {
                "gpus": document["fleet"]["gpus"],
                "left_out": document["fleet"]["left_out_gpus"],
            }
            support.emit("steer", f"load {load}, {case}", **figures)


if __name__ == "__main__":
    main()
