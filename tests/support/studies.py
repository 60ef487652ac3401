"""Results as `penstock twin queue --json` and `place --json` print them, small."""

from typing import Any


def queue_result(policy: str, utilisation_pct: float, wait_h: float, **more: object) -> dict[str, Any]:
    """Return one result of a queueing study of 100 GPUs over 10 hours."""
    return {
        "policy": policy,
        "mean_wait_h": wait_h,
        "median_wait_h": 0.0,
        "p99_wait_h": 9 * wait_h,
        "mean_wait_h_ge8": 2 * wait_h,
        "makespan_d": 1.5,
        "utilisation_pct": utilisation_pct,
        "broken_pct": 7.5,
        "gpus": 100,
        "window_h": 10.0,
        "lost_gpu_h": 0.0,
        "waits_by_size": [{"gpus": "1", "mean_wait_h": wait_h}, {"gpus": "8-15", "mean_wait_h": 2 * wait_h}],
        "series": {"step_h": 2.0, "utilisation_pct": [10.0, utilisation_pct, 0.0]},
        **more,
    }


def place_result(policy: str, seed: int, allocation_pct: float) -> dict[str, Any]:
    """Return one result of a placement study."""
    return {
        "policy": policy,
        "mode": "one-shot",
        "seed": seed,
        "alloc_pct_100": allocation_pct - 3,
        "alloc_pct_130": allocation_pct,
        "frag_pct": 100 - allocation_pct,
        "migrations": 0,
        "moved_gpu_pct": 0.0,
        "curve_pct": [0.0, 5.0, allocation_pct],
    }
