"""What runs where: gangs of whole GPUs on equal nodes, and what stopping one of them would cost.

A gang of at most a node's GPUs sits on one node; a larger one takes whole nodes, and what is left over from
them sits on one more. Best fit: the fullest node that holds it, of equals the first. The cluster reads no
clock and rolls no dice: the same calls give the same places.
"""

from dataclasses import dataclass

from penstock.base.errors import InvalidInputError

Part = tuple[int, int]  # node, GPUs


@dataclass(frozen=True, slots=True)
class Gang:
    """Work that needs all its ``gpus`` at once.

    ``queue`` is its place in the quota tree, ``tenant`` or ``tenant/project``. ``checkpoint_s`` is how often it
    saves its work while it runs; 0 means never: stopped, it starts from nothing.
    """

    job_id: int
    queue: str
    gpus: int
    submit_s: int
    checkpoint_s: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One uninterrupted run of a gang. ``expected_s`` is what it was thought to take when it started.

    ``resume_s`` is spent on loading the last checkpoint, ``done_s`` is the work that checkpoint holds.
    """

    gang: Gang
    started_s: int
    expected_s: int
    parts: tuple[Part, ...]
    resume_s: int = 0
    done_s: int = 0

    @property
    def expected_end_s(self) -> int:
        """When it was thought to end."""
        return self.started_s + self.expected_s

    def worked_s(self, now_s: int) -> int:
        """Return the seconds of useful work of this run up to ``now_s``."""
        return max(0, now_s - self.started_s - self.resume_s)

    def unsaved_s(self, now_s: int) -> int:
        """Return the seconds of work that stopping it at ``now_s`` would lose: those since its last checkpoint."""
        worked = self.worked_s(now_s)
        return worked % self.gang.checkpoint_s if self.gang.checkpoint_s else worked

    def saved_s(self, now_s: int) -> int:
        """Return the seconds of work, of this and earlier runs, that the last checkpoint holds at ``now_s``."""
        return self.done_s + self.worked_s(now_s) - self.unsaved_s(now_s)


class Cluster:
    """``nodes`` equal nodes of ``gpus_per_node`` GPUs and the gangs that run on them.

    ``level[f]`` is the set of nodes with exactly ``f`` free GPUs, as the bits of one whole number.
    """

    def __init__(self, nodes: int, gpus_per_node: int) -> None:
        if nodes < 1 or gpus_per_node < 1:
            raise InvalidInputError("a cluster has at least one node of at least one GPU", field="nodes")
        self.nodes, self.gpus_per_node = nodes, gpus_per_node
        self.capacity = self.free = nodes * gpus_per_node
        self.free_on = [gpus_per_node] * nodes
        self.jobs_on: list[dict[int, None]] = [{} for _ in range(nodes)]  # a set that keeps its order
        self.level = [0] * (gpus_per_node + 1)
        self.level[gpus_per_node] = (1 << nodes) - 1
        self.running: dict[int, Run] = {}

    def split(self, gpus: int) -> tuple[int, int]:
        """Return how many whole nodes a gang of ``gpus`` takes, and how many GPUs of one more."""
        return divmod(gpus, self.gpus_per_node)

    def find(self, gpus: int, avoid: int = 0) -> tuple[Part, ...] | None:
        """Return where a gang of ``gpus`` would go, None if its shape is not free outside ``avoid`` (node bits)."""
        if gpus > self.free:
            return None
        whole, rest = divmod(gpus, self.gpus_per_node)
        parts: list[Part] = []
        empty = self.level[self.gpus_per_node] & ~avoid
        for _ in range(whole):
            if not empty:
                return None
            bit = empty & -empty
            empty ^= bit
            parts.append((bit.bit_length() - 1, self.gpus_per_node))
        if rest:
            for free in range(rest, self.gpus_per_node + 1):
                here = empty if free == self.gpus_per_node else self.level[free] & ~avoid
                if here:
                    parts.append(((here & -here).bit_length() - 1, rest))
                    break
            else:
                return None
        return tuple(parts)

    def start(self, run: Run) -> None:
        """Mark ``run`` as running; ValueError if a part of it is not free or the gang runs already."""
        if run.gang.job_id in self.running:
            raise ValueError(f"job {run.gang.job_id} runs already")
        if sum(gpus for _, gpus in run.parts) != run.gang.gpus:
            raise ValueError("the parts are not the gang")
        if any(gpus < 1 or gpus > self.free_on[node] for node, gpus in run.parts):
            raise ValueError(f"a node of {run.parts} has not that many free GPUs")
        for node, gpus in run.parts:
            self._set(node, self.free_on[node] - gpus)
            self.jobs_on[node][run.gang.job_id] = None
        self.free -= run.gang.gpus
        self.running[run.gang.job_id] = run

    def stop(self, job_id: int) -> Run:
        """Give back what a gang held, because it ended or was preempted; KeyError if it does not run."""
        run = self.running.pop(job_id)
        for node, gpus in run.parts:
            self._set(node, self.free_on[node] + gpus)
            del self.jobs_on[node][job_id]
        self.free += run.gang.gpus
        return run

    def stranded(self, gpus: int) -> int:
        """Return the free GPUs that no gang of ``gpus`` could use as they lie: fragmentation as it sees it."""
        whole, rest = self.split(gpus)
        if whole:
            return self.free - self.level[self.gpus_per_node].bit_count() * self.gpus_per_node
        return sum(free * self.level[free].bit_count() for free in range(1, rest))

    def _set(self, node: int, free: int) -> None:
        self.level[self.free_on[node]] ^= 1 << node
        self.level[free] ^= 1 << node
        self.free_on[node] = free
