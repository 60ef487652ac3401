"""Whom to stop so that a gang of a given shape fits: whole nodes for a large gang, never scattered GPUs.

The cheapest set is looked for, where a cost per running gang says what stopping it loses and None that it may
not be stopped. For the part on one node the search is exact (a knapsack over at most a node's GPUs). Whole
nodes are picked cheapest first; a victim that sits on several nodes is paid once and frees all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.scheduler.queueing.cluster import Cluster, Part, Run

Cost = Callable[[Run], int | None]


@dataclass(frozen=True, slots=True)
class Eviction:
    """The gang goes to ``parts`` once ``victims`` (job ids, in order of choice) have been stopped, for ``cost``."""

    parts: tuple[Part, ...]
    victims: tuple[int, ...]
    cost: int


class _Search:
    """One search: what the costs are, who has been chosen, and what is free on each node because of it."""

    def __init__(self, cluster: Cluster, cost: Cost) -> None:
        self.cluster = cluster
        self._cost = cost
        self._known: dict[int, int | None] = {}
        self.victims: dict[int, None] = {}
        self.freed = [0] * cluster.nodes
        self.total = 0

    def cost_of(self, job_id: int) -> int | None:
        if job_id in self.victims:
            return 0
        if job_id not in self._known:
            self._known[job_id] = self._cost(self.cluster.running[job_id])
        return self._known[job_id]

    def node_cost(self, node: int) -> int | None:
        """Return what emptying ``node`` costs; None if somebody on it may not be stopped."""
        total = 0
        for job_id in self.cluster.jobs_on[node]:
            cost = self.cost_of(job_id)
            if cost is None:
                return None
            total += cost
        return total

    def stop(self, job_id: int) -> None:
        if job_id in self.victims:
            return
        self.total += self.cost_of(job_id) or 0
        self.victims[job_id] = None
        for node, gpus in self.cluster.running[job_id].parts:
            self.freed[node] += gpus

    def cheapest_on(self, node: int, need: int) -> tuple[int, tuple[int, ...]] | None:
        """Return the least cost of freeing ``need`` more GPUs of ``node`` and who pays it; None if impossible."""
        best: list[tuple[int, tuple[int, ...]] | None] = [(0, ()), *([None] * need)]
        for job_id in self.cluster.jobs_on[node]:
            cost = self.cost_of(job_id)
            if cost is None or job_id in self.victims:
                continue
            here = sum(gpus for at, gpus in self.cluster.running[job_id].parts if at == node)
            for have in range(need, -1, -1):
                entry = best[have]
                if entry is None:
                    continue
                then = min(need, have + here)
                offer = (entry[0] + cost, (*entry[1], job_id))
                known = best[then]
                if then > have and (known is None or offer < known):
                    best[then] = offer
        return best[need]


def cheapest_eviction(
    cluster: Cluster, gpus: int, cost: Cost, already: tuple[int, ...] = ()
) -> Eviction | None:
    """Return whom to stop so that a gang of ``gpus`` fits, None if no allowed set frees its shape.

    Those in ``already`` are stopped in any case, and come first.
    """
    search = _Search(cluster, cost)
    for job_id in already:
        search.stop(job_id)
    whole, rest = cluster.split(gpus)
    chosen: list[int] = []
    for _ in range(whole):
        best: tuple[int, int] | None = None
        for node in range(cluster.nodes):
            if node in chosen:
                continue
            price = search.node_cost(node)
            if price is not None and (best is None or (price, node) < best):
                best = (price, node)
        if best is None:
            return None
        chosen.append(best[1])
        for job_id in cluster.jobs_on[best[1]]:
            search.stop(job_id)
    parts = [(node, cluster.gpus_per_node) for node in chosen]
    if rest:
        node = _cheapest_rest(search, rest, set(chosen))
        if node is None:
            return None
        parts.append((node, rest))
    return Eviction(tuple(parts), tuple(search.victims), search.total)


def _cheapest_rest(search: _Search, rest: int, taken: set[int]) -> int | None:
    """Stop the cheapest set that frees ``rest`` GPUs on one node outside ``taken``; return the node, None if none."""
    best: tuple[int, int, int, tuple[int, ...]] | None = None
    for node in range(search.cluster.nodes):
        if node in taken:
            continue
        free = search.cluster.free_on[node] + search.freed[node]
        found = search.cheapest_on(node, max(0, rest - free))
        if found is not None:
            offer = (found[0], free, node, found[1])
            if best is None or offer < best:
                best = offer
    if best is None:
        return None
    for job_id in best[3]:
        search.stop(job_id)
    return best[2]
