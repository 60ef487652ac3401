"""Gangs, random months, and a watcher that judges every decision of a queueing policy by its own books."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from penstock.scheduler.queueing import Decisions, Gang, Policy, Run
from penstock.twin.queue.replay import Job

QUEUES = ("a", "b/x", "b/y")


def gang(job_id: int = 0, gpus: int = 1, queue: str = "a", submit_s: int = 0, checkpoint_s: int = 0) -> Gang:
    """Return a gang with what a test does not care about filled in."""
    return Gang(job_id, queue, gpus, submit_s, checkpoint_s)


def numbered(rows: list[tuple[int, int, str, int, int]]) -> list[Job]:
    """Return jobs of rows of (seconds after the one before, GPUs, queue, duration, checkpoint interval)."""
    jobs: list[Job] = []
    at_s = 0
    for number, (gap_s, gpus, queue, duration_s, checkpoint_s) in enumerate(rows):
        at_s += gap_s
        jobs.append(Job(Gang(number, queue, gpus, at_s, checkpoint_s), duration_s))
    return jobs


def months(sizes: Sequence[int], queues: Sequence[str] = QUEUES) -> st.SearchStrategy[list[Job]]:
    """Make short busy months of gangs of ``sizes``."""
    job = st.tuples(
        st.integers(0, 60),
        st.sampled_from(sizes),
        st.sampled_from(queues),
        st.integers(0, 4_000),
        st.sampled_from((0, 7, 600)),
    )

    return st.lists(job, min_size=1, max_size=40).map(numbered)


@dataclass
class Watch:
    """Stands between a replay and a policy; ``look`` is called with each decision, after it was booked."""

    policy: Policy
    look: Callable[["Watch", Decisions, int], None] = lambda *_: None
    running: dict[int, Run] = field(default_factory=dict[int, Run])
    since_s: dict[int, int] = field(default_factory=dict[int, int])
    started: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    gangs: dict[int, Gang] = field(default_factory=dict[int, Gang])

    @property
    def cluster(self) -> object:
        return self.policy.cluster

    @property
    def waiting(self) -> int:
        assert self.policy.waiting == len(self.since_s)
        return self.policy.waiting

    @property
    def wake_s(self) -> int | None:
        return self.policy.wake_s

    def arrive(self, one: Gang, now_s: int) -> None:
        self.gangs[one.job_id] = one
        self.since_s[one.job_id] = now_s
        self.policy.arrive(one, now_s)

    def end(self, job_id: int, now_s: int) -> Run:
        del self.running[job_id]
        return self.policy.end(job_id, now_s)

    def decide(self, now_s: int) -> Decisions:
        made = self.policy.decide(now_s)
        for run in made.stopped:
            assert self.running.pop(run.gang.job_id) == run
            self.since_s[run.gang.job_id] = now_s
        for run in made.started:
            job_id = run.gang.job_id
            assert job_id not in self.running
            assert run.started_s == now_s
            del self.since_s[job_id]
            self.running[job_id] = run
            self.started.append((now_s, job_id))
        self.judge_shapes()
        self.look(self, made, now_s)
        return made

    def judge_shapes(self) -> None:
        """No node holds more than it has, and every gang lies in its shape."""
        cluster = self.policy.cluster
        held = [0] * cluster.nodes
        for run in self.running.values():
            whole, rest = divmod(run.gang.gpus, cluster.gpus_per_node)
            parts = sorted(gpus for _, gpus in run.parts)
            assert parts == sorted([cluster.gpus_per_node] * whole + [rest] * (rest > 0))
            assert len({node for node, _ in run.parts}) == len(run.parts)
            for node, gpus in run.parts:
                held[node] += gpus
        assert max(held) <= cluster.gpus_per_node
        assert [cluster.gpus_per_node - used for used in held] == cluster.free_on

    def used(self, queue: str) -> int:
        """Return the GPUs held in ``queue`` and below it, by the watcher's own books."""
        return sum(
            run.gang.gpus
            for run in self.running.values()
            if run.gang.queue == queue or run.gang.queue.startswith(queue + "/")
        )
