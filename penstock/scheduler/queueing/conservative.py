"""Conservative backfill: every gang gets a reservation when it arrives, and nobody may delay any of them.

Mu'alem and Feitelson, IEEE TPDS 12(6), 2001. Reservations count GPUs; a gang whose time has come while its shape
is not free (GPUs enough, but in pieces) gets the next time at which something ends.
"""

from bisect import insort

from penstock.scheduler.queueing.cluster import Cluster, Gang, Run
from penstock.scheduler.queueing.policy import Decisions, Estimate, Policy
from penstock.scheduler.queueing.profile import Profile


class Conservative(Policy):
    """Reservations for all. ``estimate`` says how long a gang will run."""

    def __init__(self, cluster: Cluster, estimate: Estimate) -> None:
        super().__init__(cluster)
        self._estimate = estimate
        self._profile = Profile(cluster.capacity)
        self._reserved: list[tuple[int, int, int]] = []  # start, order of arrival, job
        self._gangs: dict[int, tuple[Gang, int, int]] = {}  # gang, expected seconds, order of arrival
        self._arrived = 0

    def arrive(self, gang: Gang, now_s: int) -> None:
        """Reserve the first time at which the gang delays nobody."""
        self.check(gang)
        self._arrived += 1
        self._gangs[gang.job_id] = (gang, max(1, self._estimate(gang)), self._arrived)
        self._reserve(gang.job_id, now_s)

    def end(self, job_id: int, now_s: int) -> Run:
        """Take note that a gang has ended, sooner or later than expected."""
        run = super().end(job_id, now_s)
        self._profile.take(-run.gang.gpus, now_s, run.expected_end_s)
        return run

    @property
    def waiting(self) -> int:
        """How many gangs wait."""
        return len(self._gangs)

    @property
    def wake_s(self) -> int | None:
        """The first reservation."""
        return self._reserved[0][0] if self._reserved else None

    def reservations(self) -> list[tuple[int, int, int]]:
        """Return (start in seconds, order of arrival, job) of all who wait, the earliest first."""
        return list(self._reserved)

    def decide(self, now_s: int) -> Decisions:
        """Start whose time has come; who does not fit in its shape gets a later time."""
        made = Decisions()
        self._profile.forget(now_s)
        while self._reserved and self._reserved[0][0] <= now_s:
            start_s, _, job_id = self._reserved.pop(0)
            gang, expected_s, _ = self._gangs[job_id]
            self._profile.take(-gang.gpus, start_s, start_s + expected_s)
            parts = self.cluster.find(gang.gpus)
            if parts is None or self._profile.earliest_s(gang.gpus, expected_s, now_s) != now_s:
                self._reserve(job_id, self._profile.next_s(now_s))
                continue
            del self._gangs[job_id]
            self._profile.take(gang.gpus, now_s, now_s + expected_s)
            made.started.append(self._begin(gang, parts, now_s, expected_s))
        return made

    def _reserve(self, job_id: int, from_s: int) -> None:
        gang, expected_s, order = self._gangs[job_id]
        start_s = self._profile.earliest_s(gang.gpus, expected_s, from_s)
        if start_s is None:
            raise ValueError(f"no time for job {job_id}: {gang.gpus} GPUs are never free")
        self._profile.take(gang.gpus, start_s, start_s + expected_s)
        insort(self._reserved, (start_s, order, job_id))
