"""Waits of gang jobs by queueing policy: Philly, October 2017, on a quarter of the cluster (88 nodes of 8).

Prints one JSON line per policy, the product's and its peers in the same run, and `penstock` again under harder
conditions. Needs the public trace beside the repository; without it each line says so and has no figures.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from penstock.scheduler.queueing import Rules, Share
from penstock.twin.queue.policies import POLICIES, Study, run_study
from penstock.twin.queue.replay import Job
from penstock.twin.queue.trace import read_jobs, read_shares

TRACES = Path(__file__).parents[2] / "shared" / "traces" / "philly"
JOBS = TRACES / "philly_jobs_2017-09-04_2017-10-31.csv.gz"
VC_NODES = TRACES / "vc_nodes_helios_replay.csv"
NODES, PER_NODE = 88, 8  # a quarter of the 352 nodes of the VC split
OCTOBER_S = 27 * 86_400  # the trace begins on 4 September
CHECKPOINT_S = 1_800


def jobs_of(checkpoint_s: int, days: int) -> list[Job]:
    window_s = (OCTOBER_S, OCTOBER_S + days * 86_400)
    return read_jobs(JOBS, capacity=NODES * PER_NODE, checkpoint_s=checkpoint_s, window_s=window_s)


def run_case(case: str, policy: str, study: Study) -> None:
    began = time.process_time()
    result = run_study(study, policy)
    cpu_s = time.process_time() - began
    large = result.mean_wait_h_ge8
    figures = {
        "bench": "queueing",
        "case": case,
        "jobs": result.jobs,
        "gpus": result.gpus,
        "mean_wait_h": round(result.mean_wait_h, 3),
        "median_wait_h": round(result.median_wait_h, 3),
        "p99_wait_h": round(result.p99_wait_h, 2),
        "mean_wait_h_ge8": None if large is None else round(large, 3),
        "makespan_d": round(result.makespan_d, 2),
        "utilisation_pct": round(result.utilisation_pct, 2),
        "lost_gpu_h": round(result.lost_gpu_h),
        "stops": result.stops,
        "cpu_s": round(cpu_s, 1),
    }
    print(json.dumps(figures), flush=True)


def quarter(path: Path) -> Sequence[Share]:
    """Return the cluster's own VC split, a quarter of its nodes each."""
    return [Share(share.queue, share.guaranteed_gpus // 4) for share in read_shares(path, PER_NODE)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two days, to see that it works")
    days = 2 if parser.parse_args().quick else 31
    if not JOBS.exists():
        for case in POLICIES:
            print(json.dumps({"bench": "queueing", "case": case, "skipped": "the Philly trace is not here"}))
        return
    jobs = jobs_of(CHECKPOINT_S, days)
    study = Study(jobs, NODES, PER_NODE)
    for policy in POLICIES:
        run_case(policy, policy, study)
    run_case("penstock, guarantees by VC nodes", "penstock", Study(jobs, NODES, PER_NODE, quarter(VC_NODES)))
    slow = Study(jobs_of(2 * 3_600, days), NODES, PER_NODE, rules=Rules(resume_s=600))
    run_case("penstock, checkpoints every 2 h, 10 min to resume", "penstock", slow)
    run_case("penstock, no checkpoints", "penstock", Study(jobs_of(0, days), NODES, PER_NODE))


if __name__ == "__main__":
    main()
