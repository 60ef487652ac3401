"""Who has to go so that a gang gets what its queue is guaranteed, or so that free pieces become one shape.

Both answers are plans: nothing is changed. Reclaim takes only from queues above their guarantee and never takes
one below it before its turn; a move takes nothing from anybody, it makes small gangs run elsewhere.
"""

from collections.abc import Callable

from penstock.scheduler.queueing.cluster import Cluster, Gang, Part, Run
from penstock.scheduler.queueing.quota import Quotas
from penstock.scheduler.queueing.victims import Eviction, cheapest_eviction

Price = Callable[[Run], int | None]  # GPU-seconds that stopping a gang loses; None: it may not be stopped

_RETRIES = 8  # searches in a row of which a guarantee vetoes one victim
_BELOW_LIMIT_MAX = 64  # gangs stopped at once to get below one limit


def plan_reclaim(cluster: Cluster, quotas: Quotas, gang: Gang, price: Price) -> Eviction | None:
    """Return the cheapest borrowers to stop for ``gang``, None if what may be taken does not free its shape."""
    refused: set[int] = set()

    def allowed(run: Run) -> int | None:
        if run.gang.job_id in refused or not quotas.may_take(gang.queue, gang.gpus, run.gang.queue):
            return None
        return price(run)

    for _ in range(_RETRIES):
        first = _below_limits(cluster, quotas, gang, allowed)
        eviction = None if first is None else cheapest_eviction(cluster, gang.gpus, allowed, first)
        if eviction is None:
            return None
        wrong = _vetoed(cluster, quotas, gang, eviction)
        if wrong is None:
            return eviction
        refused.add(wrong)
    return None


def _below_limits(cluster: Cluster, quotas: Quotas, gang: Gang, allowed: Price) -> tuple[int, ...] | None:
    """Return whom to stop so that no limit of the gang's queue stands in its way: siblings that borrowed from it."""
    victims: list[int] = []

    def held(name: str) -> list[Run]:
        return [run for run in cluster.running.values() if quotas.is_in(run.gang.queue, name)]

    for name, gpus in quotas.excess(gang.queue, gang.gpus):
        left = gpus - sum(run.gang.gpus for run in held(name) if run.gang.job_id in victims)
        offers = ((allowed(run), run.gang) for run in held(name) if run.gang.job_id not in victims)
        priced = sorted((cost, victim.job_id, victim.gpus) for cost, victim in offers if cost is not None)
        for _, job_id, freed in priced[:_BELOW_LIMIT_MAX]:
            if left <= 0:
                break
            victims.append(job_id)
            left -= freed
        if left > 0:
            return None
    return tuple(victims)


def _vetoed(cluster: Cluster, quotas: Quotas, gang: Gang, eviction: Eviction) -> int | None:
    """Return the first victim whose queue, the ones before it gone, is no longer above its guarantee."""
    gone: list[Gang] = []
    try:
        for job_id in eviction.victims:
            victim = cluster.running[job_id].gang
            if not quotas.may_take(gang.queue, gang.gpus, victim.queue):
                return job_id
            quotas.charge(victim.queue, -victim.gpus)
            gone.append(victim)
    finally:
        for victim in gone:
            quotas.charge(victim.queue, victim.gpus)
    return None


Move = tuple[Gang, tuple[Part, ...]]


def plan_move(cluster: Cluster, gang: Gang, price: Price, now_s: int) -> tuple[Eviction, list[Move]] | None:
    """Return which gangs, smaller than a node, go where so that ``gang`` fits; None if one would find no place."""

    def small(run: Run) -> int | None:
        return price(run) if run.gang.gpus < cluster.gpus_per_node else None

    eviction = cheapest_eviction(cluster, gang.gpus, small)
    if eviction is None:
        return None
    runs = [cluster.stop(job_id) for job_id in eviction.victims]
    cluster.start(Run(gang, now_s, 0, eviction.parts))
    moves: list[Move] = []
    for run in sorted(runs, key=lambda run: (-run.gang.gpus, run.gang.job_id)):
        parts = cluster.find(run.gang.gpus)
        if parts is None:
            break
        cluster.start(Run(run.gang, now_s, 0, parts))
        moves.append((run.gang, parts))
    for mover, _ in moves:
        cluster.stop(mover.job_id)
    cluster.stop(gang.job_id)
    for run in runs:
        cluster.start(run)
    return (eviction, moves) if len(moves) == len(runs) else None
