"""Replays jobs through a queueing policy: an event loop over arrivals, ends and the policy's own wake-ups.

The replay alone knows how long a job runs; the policy learns it when the job ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Decisions, Gang, Policy, Run


@dataclass(frozen=True, slots=True)
class Job:
    """One line of a trace: a gang, whose ``job_id`` is its place in the list, and the seconds it works."""

    gang: Gang
    duration_s: int


@dataclass(frozen=True, slots=True)
class Stay:
    """GPUs held from ``start_s`` to ``end_s``; of these seconds ``lost_s`` went into resuming and lost work."""

    job_id: int
    gpus: int
    start_s: int
    end_s: int
    lost_s: int


@dataclass(slots=True)
class Outcome:
    """What a replay came to. ``end_s[i]`` is when job ``i`` ended.

    ``broken_gpu_s`` adds up the free GPUs on partly used nodes over the time from the first to the last
    submission: what a gang that asks for whole nodes cannot use. ``stops`` counts preemptions and moves.
    """

    capacity: int
    jobs: Sequence[Job]
    end_s: list[int]
    stays: list[Stay] = field(default_factory=list[Stay])
    stops: int = 0
    broken_gpu_s: int = 0

    def wait_s(self, job_id: int) -> int:
        """Return what a job took beyond its own work: queueing, resuming, doing again what a stop lost."""
        job = self.jobs[job_id]
        return self.end_s[job_id] - job.gang.submit_s - job.duration_s

    @property
    def window_s(self) -> tuple[int, int]:
        """From the first to the last submission: while there is something to decide."""
        return self.jobs[0].gang.submit_s, self.jobs[-1].gang.submit_s


class _Loop:
    """The state of one replay; ``token`` tells the end of a run that was stopped from the end of its successor."""

    def __init__(self, jobs: Sequence[Job], policy: Policy) -> None:
        self.jobs, self.policy = jobs, policy
        self.outcome = Outcome(policy.cluster.capacity, jobs, [-1] * len(jobs))
        self.ends: list[tuple[int, int, int]] = []
        self.token: dict[int, int] = {}
        self.arrived = self.serial = 0
        self.seen_s = jobs[0].gang.submit_s if jobs else 0

    def next_s(self) -> int | None:
        """Return the next instant at which something happens, None if nothing ever does."""
        times = [self.jobs[self.arrived].gang.submit_s] if self.arrived < len(self.jobs) else []
        if self.ends:
            times.append(self.ends[0][0])
        wake_s = self.policy.wake_s
        return min(times if wake_s is None else [*times, wake_s], default=None)

    def pass_time(self, now_s: int) -> None:
        """Account for what lay broken since the last event, up to the last submission."""
        until_s = min(now_s, self.jobs[-1].gang.submit_s)
        if until_s > self.seen_s:
            cluster = self.policy.cluster
            self.outcome.broken_gpu_s += cluster.stranded(cluster.gpus_per_node) * (until_s - self.seen_s)
            self.seen_s = until_s

    def take_in(self, now_s: int) -> None:
        """Tell the policy what ended and what was submitted up to ``now_s``."""
        while self.ends and self.ends[0][0] <= now_s:
            end_s, token, job_id = heappop(self.ends)
            if self.token.get(job_id) == token:
                del self.token[job_id]
                self.outcome.end_s[job_id] = end_s
                self._note(self.policy.end(job_id, end_s), end_s, unsaved_s=0)
        while self.arrived < len(self.jobs) and self.jobs[self.arrived].gang.submit_s <= now_s:
            self.policy.arrive(self.jobs[self.arrived].gang, now_s)
            self.arrived += 1

    def carry_out(self, made: Decisions, now_s: int) -> None:
        """Stop and start what the policy decided."""
        for run in made.stopped:
            del self.token[run.gang.job_id]
            self.outcome.stops += 1
            self._note(run, now_s, unsaved_s=run.unsaved_s(now_s))
        for run in made.started:
            self.serial += 1
            self.token[run.gang.job_id] = self.serial
            left_s = self.jobs[run.gang.job_id].duration_s - run.done_s
            heappush(self.ends, (now_s + run.resume_s + left_s, self.serial, run.gang.job_id))

    def _note(self, run: Run, now_s: int, *, unsaved_s: int) -> None:
        lost_s = min(run.resume_s, now_s - run.started_s) + unsaved_s
        self.outcome.stays.append(Stay(run.gang.job_id, run.gang.gpus, run.started_s, now_s, lost_s))


def replay(jobs: Sequence[Job], policy: Policy) -> Outcome:
    """Run ``jobs``, in order of submission, through ``policy`` until all have ended.

    Raises InvalidInputError if one can never start.
    """
    loop = _Loop(jobs, policy)
    while loop.arrived < len(jobs) or loop.ends or policy.waiting:
        now_s = loop.next_s()
        if now_s is None:
            raise InvalidInputError(
                f"{policy.waiting} jobs would wait for ever; raise the limits of their queues"
            )
        loop.pass_time(now_s)
        loop.take_in(now_s)
        loop.carry_out(policy.decide(now_s), now_s)
    return loop.outcome
