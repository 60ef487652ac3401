"""Penstock's own queueing policy: guaranteed shares, borrowing, reclaim, short work first, room made for gangs.

docs/reference/queueing.md says what it does in words by which an operator can predict it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing.cluster import Cluster, Gang, Part, Run
from penstock.scheduler.queueing.history import History
from penstock.scheduler.queueing.policy import Decisions, Policy
from penstock.scheduler.queueing.quota import SEPARATOR, Quotas, Share
from penstock.scheduler.queueing.reclaim import plan_move, plan_reclaim
from penstock.scheduler.queueing.turn import BORROWING, STARVING, rank_of
from penstock.scheduler.queueing.waiting import Bucket, Waiting, WaitingRoom


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy's knobs.

    ``patience_s``: from then on a gang within its guarantee stops borrowers that have just saved their work.
    ``bound_s``: from then on it stops whatever borrowers it takes. ``move_after_s``: from then on others are
    moved to make its shape out of free pieces. ``fresh_s``: up to so much unsaved work counts as just saved.
    ``resume_s``: what loading a checkpoint costs. ``rest_s``: a gang that was stopped or moved is left alone for
    so long, except at the bound. ``starve_s``: from then on other borrowers stand back. ``aging_percent``: each second of waiting makes up for so much of a second of
    predicted work.
    """

    patience_s: int = 120
    bound_s: int = 600
    move_after_s: int = 300
    fresh_s: int = 300
    resume_s: int = 120
    rest_s: int = 3_600
    starve_s: int = 86_400
    aging_percent: int = 1


class FairShare(Policy):
    """See the module. ``shares`` is the quota tree; without any, everybody only borrows."""

    def __init__(self, cluster: Cluster, shares: Iterable[Share] = (), rules: Rules | None = None) -> None:
        super().__init__(cluster)
        self.quotas = Quotas(cluster.capacity, shares)
        self.rules = rules or Rules()
        self.moves = self.reclaims = 0
        self._history = History()
        self._room = WaitingRoom()
        self._arrived = 0
        self._order: dict[int, int] = {}
        self._stopped_s: dict[int, int] = {}

    # -- what happens -----------------------------------------------------------------------------------

    def arrive(self, gang: Gang, now_s: int) -> None:
        """Take in a gang; InvalidInputError if the cluster or its queue's limit never holds it."""
        self.check(gang)
        if gang.gpus > self.quotas.ever(gang.queue):
            raise InvalidInputError(
                f"queue '{gang.queue}' may never use {gang.gpus} GPUs; raise its limit or ask for fewer",
                field="num_gpus",
            )
        self._arrived += 1
        self._order[gang.job_id] = self._arrived
        self._enqueue(gang, now_s, 0)

    def end(self, job_id: int, now_s: int) -> Run:
        """Give back what the gang held and learn how long it worked in all."""
        run = super().end(job_id, now_s)
        self.quotas.charge(run.gang.queue, -run.gang.gpus)
        self._history.learn(run.gang, run.done_s + run.worked_s(now_s))
        del self._order[job_id]
        self._stopped_s.pop(job_id, None)
        return run

    @property
    def waiting(self) -> int:
        """How many gangs wait."""
        return len(self._room)

    @property
    def wake_s(self) -> int | None:
        """When the next gang runs out of patience."""
        return self._room.wake_s()

    def decide(self, now_s: int) -> Decisions:
        """Start what fits, give back what is guaranteed, make room for what only lacks the shape."""
        made = Decisions()
        self._room.silence(now_s)
        if len(self._room):
            self._fill(now_s, made)
            self._rescue(now_s, made)
        return made

    # -- start and stop ---------------------------------------------------------------------------------

    def _enqueue(self, gang: Gang, now_s: int, done_s: int) -> None:
        history, rules = self._history, self.rules
        expected_s = max(1, history.remaining_s(gang, done_s) if done_s else history.quantile_s(gang, 50))
        key = 100 * expected_s + rules.aging_percent * gang.submit_s
        waiting = Waiting(gang, now_s, self._order[gang.job_id], done_s, expected_s, key)
        waits_s = (rules.patience_s, rules.bound_s, rules.move_after_s)
        self._room.add(waiting, tuple(now_s + wait_s for wait_s in waits_s))

    def _launch(self, gang: Gang, parts: tuple[Part, ...], now_s: int, made: Decisions) -> None:
        waiting = self._room.remove(gang)
        resume_s = self.rules.resume_s if gang.job_id in self._stopped_s else 0
        self.quotas.charge(gang.queue, gang.gpus)
        run = Run(gang, now_s, resume_s + waiting.expected_s, parts, resume_s, waiting.done_s)
        self.cluster.start(run)
        made.started.append(run)

    def _halt(self, job_id: int, now_s: int, made: Decisions) -> None:
        run = self.cluster.stop(job_id)
        self.quotas.charge(run.gang.queue, -run.gang.gpus)
        self._stopped_s[job_id] = now_s
        made.stopped.append(run)
        self._enqueue(run.gang, now_s, run.saved_s(now_s))

    def _next(self, bucket: Bucket, now_s: int) -> tuple[tuple[int, int, int], Gang]:
        """Return the rank and the gang that a bucket sends first.

        Who is within a guarantee comes first, then borrowers that waited too long, then the others; among equals
        who is expected to be done soonest. What a borrower is expected to take counts as many times as its queue
        would be above its guarantee, which shares out what is borrowed.
        """
        first, oldest = bucket.first(), bucket.oldest()
        gang, quotas = first.gang, self.quotas
        entitled = quotas.entitled(gang.queue, gang.gpus)
        starving = not entitled and now_s - oldest.since_s >= self.rules.starve_s
        one = oldest if starving else first
        excess = 0 if entitled else first.expected_s * (quotas.over_percent(gang.queue, gang.gpus) - 100)
        rank = rank_of(
            entitled=entitled,
            waited_s=now_s - oldest.since_s,
            since_s=oldest.since_s,
            starve_s=self.rules.starve_s,
            key=first.key,
            excess=excess,
            number=one.order,
        )
        return rank, one.gang

    def _fill(self, now_s: int, made: Decisions) -> None:
        """Start who fits, in order of rank; of one bucket only the first needs a look."""
        if not self.cluster.free:
            return
        heads = [(self._next(bucket, now_s)[0], name) for name, bucket in self._room.occupied()]
        heapify(heads)
        too_large = self.cluster.capacity + 1
        stand_back: set[str] = set()  # tenants whose borrowers let a starving one pass
        last_class = BORROWING
        while heads and self.cluster.free:
            rank, name = heappop(heads)
            bucket = self._room.bucket(name)
            now_rank, gang = self._next(bucket, now_s)
            if now_rank > rank:  # what was started meanwhile used up its guarantee
                heappush(heads, (now_rank, name))
                continue
            tenant = gang.queue.partition(SEPARATOR)[0]
            if now_rank[0] > last_class:
                break
            if now_rank[0] == BORROWING and tenant in stand_back:
                continue
            parts = self.cluster.find(gang.gpus) if gang.gpus < too_large else None
            if parts is None:
                too_large = min(too_large, gang.gpus)
                last_class = STARVING if now_rank[0] == STARVING else last_class
                continue
            if gang.gpus > self.quotas.room(gang.queue):
                if now_rank[0] == STARVING:
                    stand_back.add(tenant)
                continue
            self._launch(gang, parts, now_s, made)
            if len(bucket):
                heappush(heads, (self._next(bucket, now_s)[0], name))

    # -- reclaim and moves ------------------------------------------------------------------------------

    def _rescue(self, now_s: int, made: Decisions) -> None:
        """Look after those who have waited long, of each bucket the oldest first, until none can be helped.

        Helping one may make room for one that was looked at before it, so all are looked at again then.
        """
        helped = True
        while helped:
            helped = False
            buckets = [bucket for _, bucket in self._room.occupied()]
            buckets.sort(key=lambda bucket: (bucket.oldest().since_s, bucket.oldest().order))
            for bucket in buckets:
                while len(bucket) and self._help(bucket.oldest(), now_s, made):
                    helped = True

    def _help(self, waiting: Waiting, now_s: int, made: Decisions) -> bool:
        gang, waited_s = waiting.gang, now_s - waiting.since_s
        if waited_s >= self.rules.patience_s and self.quotas.entitled(gang.queue, gang.gpus):
            at_bound = waited_s >= self.rules.bound_s
            if self._reclaim(gang, now_s, made, at_bound=at_bound):
                return True
        enough = self.cluster.free >= gang.gpus <= self.quotas.room(gang.queue)
        return waited_s >= self.rules.move_after_s and enough and self._move(gang, now_s, made)

    def _price(self, run: Run, now_s: int, *, at_bound: bool) -> int | None:
        """Return the GPU-seconds that stopping ``run`` loses, None if that is too much or too soon."""
        if run.started_s == now_s:
            return None  # it was decided in this very look
        unsaved_s = run.unsaved_s(now_s)
        stopped_s = self._stopped_s.get(run.gang.job_id)
        rested = stopped_s is None or now_s - stopped_s >= self.rules.rest_s
        if not at_bound and (unsaved_s > self.rules.fresh_s or not rested):
            return None
        return (unsaved_s + self.rules.resume_s) * run.gang.gpus

    def _reclaim(self, gang: Gang, now_s: int, made: Decisions, *, at_bound: bool) -> bool:
        """Stop borrowers so that ``gang``, which is within its guarantee, gets its shape."""
        eviction = plan_reclaim(
            self.cluster, self.quotas, gang, lambda run: self._price(run, now_s, at_bound=at_bound)
        )
        if eviction is None:
            return False
        for job_id in eviction.victims:
            self._halt(job_id, now_s, made)
        self._launch(gang, eviction.parts, now_s, made)
        self.reclaims += len(eviction.victims)
        self._fill(now_s, made)
        return True

    def _move(self, gang: Gang, now_s: int, made: Decisions) -> bool:
        """Make the shape out of free pieces: small gangs stop and start elsewhere in the same instant."""
        planned = plan_move(self.cluster, gang, lambda run: self._price(run, now_s, at_bound=False), now_s)
        if planned is None:
            return False
        eviction, moves = planned
        for job_id in eviction.victims:
            self._halt(job_id, now_s, made)
        self._launch(gang, eviction.parts, now_s, made)
        for mover, parts in moves:
            self._launch(mover, parts, now_s, made)
        self.moves += len(moves)
        return True
