"""The static team split: every tenant has nodes of its own and nobody borrows. What quotas without sharing cost."""

from collections.abc import Sequence

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Share
from penstock.twin.queue.replay import Job


def by_tenant(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Return each tenant's jobs, numbered anew from 0."""
    parts: dict[str, list[Job]] = {}
    for job in jobs:
        gang = job.gang
        mine = parts.setdefault(gang.queue.partition("/")[0], [])
        moved = type(gang)(len(mine), gang.queue, gang.gpus, gang.submit_s, gang.checkpoint_s)
        mine.append(Job(moved, job.duration_s))
    return parts


def nodes_by_share(shares: Sequence[Share], gpus_per_node: int) -> dict[str, int]:
    """Return the whole nodes of each tenant's guarantee."""
    return {share.queue: share.guaranteed_gpus // gpus_per_node for share in shares if "/" not in share.queue}


def nodes_by_work(parts: dict[str, list[Job]], nodes: int, gpus_per_node: int) -> dict[str, int]:
    """Split ``nodes`` in proportion to the GPU-seconds each tenant is going to ask for: a split that looks ahead.

    Largest remainders; no tenant gets fewer than its largest gang needs. InvalidInputError if that is too many.
    """
    work = {name: sum(job.gang.gpus * job.duration_s for job in jobs) for name, jobs in parts.items()}
    least = {name: max(-(-job.gang.gpus // gpus_per_node) for job in jobs) for name, jobs in parts.items()}
    if sum(least.values()) > nodes:
        raise InvalidInputError(
            f"a static split needs {sum(least.values())} nodes so that each tenant's largest gang fits; there are {nodes}"
        )
    total = max(1, sum(work.values()))
    exact = {name: nodes * amount / total for name, amount in work.items()}
    given = {name: max(least[name], int(share)) for name, share in exact.items()}
    while sum(given.values()) < nodes:
        given[max(given, key=lambda name: (exact[name] - given[name], name))] += 1
    while sum(given.values()) > nodes:
        spare = [name for name in given if given[name] > least[name]]
        given[max(spare, key=lambda name: (given[name] - exact[name], name))] -= 1
    return given
