"""Guaranteed shares and borrowing, as a tree: cluster, tenant, project.

A *guarantee* is what a queue gets back within a bound, whoever uses it meanwhile; a *limit* is what it never
exceeds, borrowed GPUs included. What a queue leaves idle its siblings may borrow; what a tenant leaves idle,
other tenants. The semantics are those of Kueue's cohorts (nominal quota, borrowing limit, reclaim within the
cohort) and of KAI's hierarchical queues: who may take from whom is judged where their branches part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from penstock.base.errors import InvalidInputError

SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Share:
    """One queue's ``guaranteed_gpus`` and, if it has one, its ``limit_gpus``; ``queue`` is its path."""

    queue: str
    guaranteed_gpus: int
    limit_gpus: int | None = None


@dataclass(slots=True)
class _Level:
    name: str
    guaranteed: int
    limit: int
    used: int = 0


def path_of(queue: str) -> tuple[str, ...]:
    """Return the levels of a queue below the cluster, outermost first; InvalidInputError if one has no name."""
    names = queue.split(SEPARATOR)
    if not all(names):
        raise InvalidInputError(
            f"queue '{queue}' has a level without a name; write tenant or tenant/project", field="queue"
        )
    return tuple(SEPARATOR.join(names[: depth + 1]) for depth in range(len(names)))


class Quotas:
    """The tree with what each queue uses now. A queue without a share of its own is guaranteed nothing."""

    def __init__(self, capacity: int, shares: Iterable[Share] = ()) -> None:
        """Take the cluster's GPUs and every share; InvalidInputError if a level promises more than it has."""
        self.capacity = capacity
        self._levels: dict[str, _Level] = {}
        self._chains: dict[str, tuple[_Level, ...]] = {}
        for share in shares:
            self._add(share)
        self._check_sums()

    def _add(self, share: Share) -> None:
        path_of(share.queue)
        if share.queue in self._levels:
            raise InvalidInputError(f"queue '{share.queue}' has two shares; give one", field="queue")
        limit = self.capacity if share.limit_gpus is None else share.limit_gpus
        if not 0 <= share.guaranteed_gpus <= limit:
            raise InvalidInputError(
                f"queue '{share.queue}': 0 <= guaranteed ({share.guaranteed_gpus}) <= limit ({limit}) must hold",
                field="guaranteed_gpus",
            )
        self._levels[share.queue] = _Level(share.queue, share.guaranteed_gpus, min(limit, self.capacity))

    def _check_sums(self) -> None:
        sums: dict[str, int] = {}
        for name, level in self._levels.items():
            parent = name.rpartition(SEPARATOR)[0]
            sums[parent] = sums.get(parent, 0) + level.guaranteed
        for parent, total in sums.items():
            has = self.capacity if not parent else self.guaranteed(parent)
            if total > has:
                whose = f"queue '{parent}'" if parent else "the cluster"
                raise InvalidInputError(
                    f"{total} GPUs are guaranteed below {whose}, which has {has}; lower the guarantees",
                    field="guaranteed_gpus",
                )

    def guaranteed(self, queue: str) -> int:
        """Return what ``queue`` is guaranteed, 0 if it has no share."""
        level = self._levels.get(queue)
        return level.guaranteed if level is not None else 0

    def used(self, queue: str) -> int:
        """Return what runs in ``queue`` and below it now, in GPUs."""
        level = self._levels.get(queue)
        return level.used if level is not None else 0

    def usage(self) -> Mapping[str, tuple[int, int, int]]:
        """Return (used, guaranteed, limit) of every queue that is known."""
        return {name: (level.used, level.guaranteed, level.limit) for name, level in self._levels.items()}

    def chain(self, queue: str) -> tuple[_Level, ...]:
        """Return the levels of ``queue``, outermost first; levels nobody gave a share are made on the way."""
        found = self._chains.get(queue)
        if found is None:
            for name in path_of(queue):
                self._levels.setdefault(name, _Level(name, 0, self.capacity))
            found = self._chains[queue] = tuple(self._levels[name] for name in path_of(queue))
        return found

    def charge(self, queue: str, gpus: int) -> None:
        """Count ``gpus`` (negative: give back) at every level; ValueError over a limit or below zero."""
        chain = self.chain(queue)
        if any(not 0 <= level.used + gpus <= level.limit for level in chain):
            raise ValueError(f"{gpus} GPUs do not fit the quota of {queue}")
        for level in chain:
            level.used += gpus

    def room(self, queue: str) -> int:
        """Return how many more GPUs ``queue`` may use, borrowed ones included."""
        return min(level.limit - level.used for level in self.chain(queue))

    def excess(self, queue: str, gpus: int) -> list[tuple[str, int]]:
        """Return the levels whose limit ``gpus`` more would exceed, outermost first, and by how much."""
        levels = self.chain(queue)
        return [(one.name, one.used + gpus - one.limit) for one in levels if one.used + gpus > one.limit]

    def is_in(self, queue: str, name: str) -> bool:
        """Tell whether ``queue`` is ``name`` or below it."""
        return any(level.name == name for level in self.chain(queue))

    def ever(self, queue: str) -> int:
        """Return how many GPUs ``queue`` could use at most if nothing ran."""
        return min(level.limit for level in self.chain(queue))

    def entitled(self, queue: str, gpus: int) -> bool:
        """Tell whether ``gpus`` more stay within a guarantee: the project's own, or that of its whole tenant."""
        return any(level.used + gpus <= level.guaranteed for level in self.chain(queue))

    def may_take(self, queue: str, gpus: int, victim: str) -> bool:
        """Tell whether ``gpus`` more of ``queue`` may push out work of ``victim``.

        Where the two branches part, the taker's side must stay within its guarantee, and on the other side
        every level down to the victim must be above its own. So what runs within a guarantee is never taken.
        """
        mine, theirs = self.chain(queue), self.chain(victim)
        for depth, (left, right) in enumerate(zip(mine, theirs, strict=False)):
            if left is not right:
                return left.used + gpus <= left.guaranteed and all(
                    level.used > level.guaranteed for level in theirs[depth:]
                )
        return False  # one queue, or one inside the other: no guarantee is between them

    def over_percent(self, queue: str, gpus: int) -> int:
        """Return what ``gpus`` more make of the fair share: use in percent of the guarantee, at least 100.

        Of the levels the one that is furthest above counts; who is guaranteed nothing counts as guaranteed one.
        """
        return max(100, *(100 * (one.used + gpus) // max(one.guaranteed, 1) for one in self.chain(queue)))


def equal_shares(queues: Iterable[str], capacity: int) -> list[Share]:
    """Share the cluster equally among the tenants of ``queues``, and each tenant's part among its projects."""
    tree: dict[str, dict[str, None]] = {"": {}}
    for queue in sorted(set(queues)):
        parent = ""
        for name in path_of(queue):
            tree.setdefault(parent, {})[name] = None
            parent = name
    shares: list[Share] = []

    def divide(parent: str, gpus: int) -> None:
        children = tree.get(parent, {})
        for index, name in enumerate(children):
            part = gpus // len(children) + (index < gpus % len(children))
            shares.append(Share(name, part))
            divide(name, part)

    divide("", capacity)
    return shares
