"""Whose turn it is: the order in which waiting orders are tried, and whom a guaranteed share may stop.

The same rank, shares and predictions as ``fair_share``, which the twin measures on traces, for orders on real devices:
amounts are thousandths of a device, and there is a tree of shares for all devices together and one for
each class with a share of its own.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from penstock.scheduler.packing.shape import WHOLE_MILLI
from penstock.scheduler.queueing.quota import SEPARATOR, Quotas, Share

ALL = ""  # the tree of all devices together
WITHIN, STARVING, BORROWING = range(3)  # classes of rank

Rank = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Order:
    """An order that waits or runs: ``milli`` thousandths of a device of one of ``classes`` (empty: of any).

    ``queue`` is tenant/project. ``number`` tells it apart and breaks ties, the lower the earlier.
    """

    number: int
    queue: str
    milli: int
    classes: tuple[str, ...]
    since_s: int
    expected_s: int = 0

    @property
    def tenant(self) -> str:
        """Return whose it is."""
        return self.queue.partition(SEPARATOR)[0]


def rank_of(
    *, entitled: bool, waited_s: int, since_s: int, starve_s: int, key: int, excess: int, number: int
) -> Rank:
    """Return the rank of an order, the least first.

    Who is within a guarantee comes first, then borrowers that waited too long, then the others; among equals who is
    expected to be done soonest (``key``). ``excess`` is what a borrower's order counts beyond that for what its queue
    has borrowed already, which shares out what is borrowed.
    """
    if entitled:
        return (WITHIN, key, number)
    if waited_s >= starve_s:
        return (STARVING, since_s, number)
    return (BORROWING, key + excess, number)


class Guarantees:
    """The shares, and what each queue runs now."""

    def __init__(self, capacity: Mapping[str, int], shares: Mapping[str, Sequence[tuple[str, int]]]) -> None:
        """Take devices by class, and by class (ALL: together) the queues with what each is guaranteed, in devices.

        Devices may have been lost since the promise was made: then what was promised counts as there.
        """
        self.trees: dict[str, Quotas] = {}
        for name, given in shares.items():
            own = sum(capacity.values()) if name == ALL else capacity.get(name, 0)
            kept = _consistent(given)
            promised = sum(amount for queue, amount in kept if SEPARATOR not in queue)
            made = [Share(queue, amount * WHOLE_MILLI) for queue, amount in kept]
            self.trees[name] = Quotas(max(own, promised) * WHOLE_MILLI, made)

    def _of(self, classes: tuple[str, ...]) -> list[Quotas]:
        """Return the trees that an order or service counts in."""
        return [tree for name, tree in self.trees.items() if name == ALL or not classes or name in classes]

    def charge(self, order: Order, sign: int = 1) -> None:
        """Count an order as running (or, with -1, no more)."""
        for tree in self._of(order.classes):
            for level in tree.chain(order.queue):
                level.used += sign * order.milli

    def entitled(self, order: Order) -> bool:
        """Tell whether an order stays within a share of its own or of its tenant."""
        return any(tree.entitled(order.queue, order.milli) for tree in self._of(order.classes))

    def may_take(self, order: Order, victim: Order) -> bool:
        """Tell whether an order may push out what ``victim`` runs: whose share it is, and nobody's own is touched."""
        trees = [tree for tree in self._of(order.classes) if tree.entitled(order.queue, order.milli)]
        counts = [tree for tree in trees if any(tree is one for one in self._of(victim.classes))]
        if not any(tree.may_take(order.queue, order.milli, victim.queue) for tree in counts):
            return False
        return not any(_protected(tree, order, victim) for tree in self._of(victim.classes))

    def over_percent(self, order: Order) -> int:
        """Return what an order makes of its queue's fair share, in percent, at least 100."""
        return max(
            (tree.over_percent(order.queue, order.milli) for tree in self._of(order.classes)), default=100
        )

    @contextmanager
    def without(self, victims: Iterable[Order]) -> Generator[None]:
        """Look at things as they would be without ``victims``."""
        gone = list(victims)
        for one in gone:
            self.charge(one, -1)
        try:
            yield
        finally:
            for one in gone:
                self.charge(one)


def _consistent(given: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Leave out the shares of projects that together exceed their tenant's: it was lowered after they were made."""
    tops = {queue: amount for queue, amount in given if SEPARATOR not in queue}
    below: dict[str, int] = {}
    for queue, amount in given:
        if SEPARATOR in queue:
            tenant = queue.partition(SEPARATOR)[0]
            below[tenant] = below.get(tenant, 0) + amount
    sound = {tenant for tenant, amount in below.items() if amount <= tops.get(tenant, 0)}
    return [one for one in given if SEPARATOR not in one[0] or one[0].partition(SEPARATOR)[0] in sound]


def _protected(tree: Quotas, order: Order, victim: Order) -> bool:
    """Tell whether a level of the victim, below where its branch leaves the order's, is within its own share."""
    mine, theirs = tree.chain(order.queue), tree.chain(victim.queue)
    depth = next((at for at, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a is not b), len(theirs))
    return any(level.guaranteed and level.used <= level.guaranteed for level in theirs[depth:])


def in_turn(
    waiting: Sequence[Order], shares: Guarantees, now_s: int, *, starve_s: int, aging_percent: int = 1
) -> list[tuple[Order, int]]:
    """Return ``waiting`` in the order in which they are to be tried, each with its class of rank.

    Each is counted as if it started, so that one tenant's many orders are not all within one share.
    """

    def rank(order: Order) -> Rank:
        excess = order.expected_s * (shares.over_percent(order) - 100)
        return rank_of(
            entitled=shares.entitled(order),
            waited_s=now_s - order.since_s,
            since_s=order.since_s,
            starve_s=starve_s,
            key=100 * order.expected_s + aging_percent * order.since_s,
            excess=excess,
            number=order.number,
        )

    heads = [(rank(one), row) for row, one in enumerate(waiting)]
    heapify(heads)
    turn: list[tuple[Order, int]] = []
    try:
        while heads:
            was, row = heappop(heads)
            now = rank(waiting[row])
            if now > was:
                heappush(heads, (now, row))
                continue
            shares.charge(waiting[row])
            turn.append((waiting[row], now[0]))
    finally:
        for order, _ in turn:
            shares.charge(order, -1)
    return turn
