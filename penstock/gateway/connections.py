"""The open connections of clients: so many and no more, and who asks nothing makes room for who comes.

Without that, whoever opens as many connections as there may be and says nothing would keep everybody else out until
they time out.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

# How many of the oldest are looked at for each that comes when all places are taken; the next one looks further.
_LOOKED_AT = 64


class Open(Protocol):
    """A connection as its place is judged."""

    @property
    def asks_nothing(self) -> bool:
        """Tell whether it has no request, or not a whole head of one."""
        ...

    def drop(self) -> None:
        """Cut it."""
        ...


C = TypeVar("C", bound=Open)


class Connections(Generic[C]):
    """At most ``most`` connections, the oldest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: OrderedDict[C, None] = OrderedDict()
        self.displaced = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        """Go through all of them as they are now; they may leave meanwhile."""
        return iter(list(self._all))

    def admit(self, new: C) -> bool:
        """Give a connection a place, if need be that of an old one that asks nothing; False if there is none."""
        if len(self._all) >= self._most and not self._make_room():
            return False
        self._all[new] = None
        return True

    def discard(self, gone: C) -> None:
        """Take a place back."""
        self._all.pop(gone, None)

    def _make_room(self) -> bool:
        for _ in range(min(_LOOKED_AT, len(self._all))):
            oldest, _ = self._all.popitem(last=False)
            if oldest.asks_nothing:
                self.displaced += 1
                oldest.drop()
                return True
            self._all[oldest] = None
        return False
