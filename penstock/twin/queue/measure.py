"""What a replay is worth: waits, makespan and utilisation, over time and by size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from penstock.base import limits
from penstock.twin.queue.replay import Outcome, Stay

LARGE_GPUS = 8
SIZES = ((1, 1), (2, 3), (4, 7), (8, 15), (16, None))
_HOUR_S, _DAY_S = 3_600, 86_400


@dataclass(frozen=True, slots=True)
class SizeWait:
    """The waits of the jobs of one range of sizes."""

    gpus: str
    jobs: int
    mean_wait_h: float
    p99_wait_h: float


@dataclass(frozen=True, slots=True)
class Series:
    """Useful utilisation in percent, one value per ``step_h`` hours from the first submission on."""

    step_h: float
    utilisation_pct: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the study.

    A wait is what a job took beyond its own work. Utilisation counts useful work only, between the first and the
    last submission; ``utilisation_to_makespan_pct`` until the last job ended, when long jobs run alone.
    ``mean_wait_h_ge8`` is None if no job has 8 GPUs. ``broken_pct`` are free GPUs on partly used nodes.
    """

    policy: str
    mean_wait_h: float
    median_wait_h: float
    p99_wait_h: float
    mean_wait_h_ge8: float | None
    makespan_d: float
    utilisation_pct: float
    utilisation_to_makespan_pct: float
    broken_pct: float
    jobs: int
    gpus: int
    window_h: float
    useful_gpu_h: float
    lost_gpu_h: float
    stops: int
    waits_by_size: tuple[SizeWait, ...]
    series: Series

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)


def measure(policy: str, parts: Sequence[Outcome]) -> Result:
    """Return the result of one replay, or of several side by side: the parts of a split cluster."""
    pairs = [
        (part.jobs[i].gang.gpus, part.wait_s(i) / _HOUR_S) for part in parts for i in range(len(part.jobs))
    ]
    waits = sorted(wait_h for _, wait_h in pairs)
    large = [wait_h for gpus, wait_h in pairs if gpus >= LARGE_GPUS]
    stays = [stay for part in parts for stay in part.stays]
    capacity = sum(part.capacity for part in parts)
    first_s = min(part.window_s[0] for part in parts)
    window_s = max(1, max(part.window_s[1] for part in parts) - first_s)
    makespan_s = max(1, max(end_s for part in parts for end_s in part.end_s) - first_s)
    work_gpu_s = sum(job.gang.gpus * job.duration_s for part in parts for job in part.jobs)
    useful_gpu_s = sum(_within(stay, first_s, first_s + window_s) for stay in stays)
    return Result(
        policy=policy,
        mean_wait_h=_rounded(_mean(waits)),
        median_wait_h=_rounded(percentile(waits, 50)),
        p99_wait_h=_rounded(percentile(waits, 99)),
        mean_wait_h_ge8=_rounded(_mean(large)) if large else None,
        makespan_d=_rounded(makespan_s / _DAY_S),
        utilisation_pct=_rounded(100 * useful_gpu_s / (capacity * window_s)),
        utilisation_to_makespan_pct=_rounded(100 * work_gpu_s / (capacity * makespan_s)),
        broken_pct=_rounded(100 * sum(part.broken_gpu_s for part in parts) / (capacity * window_s)),
        jobs=len(waits),
        gpus=capacity,
        window_h=_rounded(window_s / _HOUR_S),
        useful_gpu_h=_rounded(useful_gpu_s / _HOUR_S),
        lost_gpu_h=_rounded(sum(stay.lost_s * stay.gpus for stay in stays) / _HOUR_S),
        stops=sum(part.stops for part in parts),
        waits_by_size=_by_size(pairs),
        series=_series(stays, capacity, first_s, makespan_s),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the value at ``percent`` of an ordered list, the nearest rank; 0 of nothing."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _rounded(value: float) -> float:
    return round(value, 4)


def _within(stay: Stay, from_s: int, until_s: int) -> float:
    """Return the useful GPU-seconds of a stay inside a window; what it lost is spread evenly over it."""
    held_s = stay.end_s - stay.start_s
    inside_s = max(0, min(stay.end_s, until_s) - max(stay.start_s, from_s))
    return stay.gpus * inside_s * (held_s - stay.lost_s) / held_s if held_s else 0.0


def _by_size(pairs: Sequence[tuple[int, float]]) -> tuple[SizeWait, ...]:
    found: list[SizeWait] = []
    for least, most in SIZES:
        waits = sorted(wait for gpus, wait in pairs if gpus >= least and (most is None or gpus <= most))
        name = str(least) if least == most else f"{least} and more" if most is None else f"{least}-{most}"
        if waits:
            p99 = percentile(waits, 99)
            found.append(SizeWait(name, len(waits), _rounded(_mean(waits)), _rounded(p99)))
    return tuple(found)


def _series(stays: Sequence[Stay], capacity: int, first_s: int, makespan_s: int) -> Series:
    """Spread useful work over steps of whole hours, so few that a chart can show each."""
    step_s = _HOUR_S * max(1, -(-makespan_s // (_HOUR_S * limits.TWIN_SERIES_POINTS_MAX)))
    used = [0.0] * -(-makespan_s // step_s)
    for stay in stays:
        first, last = (stay.start_s - first_s) // step_s, (stay.end_s - first_s - 1) // step_s
        for step in range(first, min(last, len(used) - 1) + 1):
            from_s = first_s + step * step_s
            used[step] += _within(stay, from_s, from_s + step_s)
    return Series(step_s / _HOUR_S, tuple(round(100 * value / (capacity * step_s), 2) for value in used))
