"""Predicted-shortest first: who is expected to be done soonest starts first, whoever fits may pass."""

from bisect import insort

from penstock.scheduler.queueing.cluster import Cluster, Gang, Run
from penstock.scheduler.queueing.history import History
from penstock.scheduler.queueing.policy import Decisions, Policy


class PredictedShortest(Policy):
    """The queue in order of the median duration of such work so far. No reservation: large gangs can starve."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self._history = History()
        self._queue: list[tuple[int, int, int, Gang]] = []
        self._arrived = 0

    def arrive(self, gang: Gang, now_s: int) -> None:
        """Sort the gang in by what is expected of it."""
        del now_s
        self.check(gang)
        self._arrived += 1
        expected_s = self._history.quantile_s(gang, 50)
        insort(self._queue, (expected_s, self._arrived, gang.job_id, gang))

    def end(self, job_id: int, now_s: int) -> Run:
        """Learn how long the gang ran."""
        run = super().end(job_id, now_s)
        self._history.learn(run.gang, run.worked_s(now_s))
        return run

    @property
    def waiting(self) -> int:
        """How many gangs wait."""
        return len(self._queue)

    def decide(self, now_s: int) -> Decisions:
        """Start whoever fits, the shortest first."""
        made = Decisions()
        started: set[int] = set()
        too_large = self.cluster.capacity + 1
        for index, (expected_s, _, _, gang) in enumerate(self._queue):
            if not self.cluster.free:
                break
            if gang.gpus >= too_large:
                continue
            parts = self.cluster.find(gang.gpus)
            if parts is None:
                too_large = gang.gpus
                continue
            made.started.append(self._begin(gang, parts, now_s, expected_s))
            started.add(index)
        if started:
            self._queue = [waiting for index, waiting in enumerate(self._queue) if index not in started]
        return made
