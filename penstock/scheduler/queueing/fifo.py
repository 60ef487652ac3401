"""First in, first out: nobody starts before the one in front. EASY: unless the one in front is not delayed by it."""

from penstock.scheduler.queueing.cluster import Cluster, Gang, Run
from penstock.scheduler.queueing.policy import Decisions, Estimate, Policy
from penstock.scheduler.queueing.profile import Ends


class Fifo(Policy):
    """Strict order of arrival."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._queue: list[Gang] = []

    def arrive(self, gang: Gang, now_s: int) -> None:
        """Put the gang at the end of the queue."""
        del now_s
        self.check(gang)
        self._queue.append(gang)

    @property
    def waiting(self) -> int:
        """How many gangs wait."""
        return len(self._queue)

    def decide(self, now_s: int) -> Decisions:
        """Start from the front as long as the one in front fits."""
        made = Decisions()
        head = 0
        while head < len(self._queue):
            gang = self._queue[head]
            parts = self.cluster.find(gang.gpus)
            if parts is None:
                break
            made.started.append(self._begin(gang, parts, now_s, 0))
            head += 1
        del self._queue[:head]
        return made


class Easy(Policy):
    """EASY backfill (Lifka, JSSPP 1995): the one in front has a reservation, whoever does not touch it may pass.

    The reservation counts GPUs, not nodes, as the original counts processors: a gang that waits for whole nodes
    while enough GPUs are free in pieces is passed by. ``estimate`` says how long a gang will run.
    """

    def __init__(self, cluster: Cluster, estimate: Estimate) -> None:
        super().__init__(cluster)
        self._estimate = estimate
        self._queue: list[tuple[Gang, int]] = []
        self._ends = Ends()

    def arrive(self, gang: Gang, now_s: int) -> None:
        """Put the gang at the end of the queue."""
        del now_s
        self.check(gang)
        self._queue.append((gang, max(1, self._estimate(gang))))

    def end(self, job_id: int, now_s: int) -> Run:
        """Take note that a gang has ended."""
        run = super().end(job_id, now_s)
        self._ends.drop(run.expected_end_s, job_id, run.gang.gpus)
        return run

    @property
    def waiting(self) -> int:
        """How many gangs wait."""
        return len(self._queue)

    def _try(self, gang: Gang, expected_s: int, now_s: int, made: Decisions) -> bool:
        parts = self.cluster.find(gang.gpus)
        if parts is None:
            return False
        run = self._begin(gang, parts, now_s, expected_s)
        self._ends.add(run.expected_end_s, gang.job_id, gang.gpus)
        made.started.append(run)
        return True

    def decide(self, now_s: int) -> Decisions:
        """Start from the front, reserve for the first that does not fit, then start whoever may pass it."""
        made = Decisions()
        head = 0
        while head < len(self._queue) and self._try(*self._queue[head], now_s, made):
            head += 1
        del self._queue[:head]
        if len(self._queue) < 2 or not self.cluster.free:
            return made
        shadow_s, extra = self._ends.shadow(self._queue[0][0].gpus, self.cluster.free, now_s)
        passed: set[int] = set()
        too_large = self.cluster.capacity + 1
        for index in range(1, len(self._queue)):
            if not self.cluster.free:
                break
            gang, expected_s = self._queue[index]
            in_time = now_s + expected_s <= shadow_s
            if gang.gpus >= too_large or not (in_time or gang.gpus <= extra):
                continue
            if self._try(gang, expected_s, now_s, made):
                passed.add(index)
                extra -= 0 if in_time else gang.gpus
            else:
                too_large = gang.gpus
        if passed:
            self._queue = [waiting for index, waiting in enumerate(self._queue) if index not in passed]
        return made
