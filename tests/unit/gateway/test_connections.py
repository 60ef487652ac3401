"""Places for connections: bounded, and never kept by those who ask nothing."""

from penstock.gateway.connections import Connections


class Peer:
    def __init__(self, *, asks_nothing: bool) -> None:
        self.asks_nothing = asks_nothing
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def test_the_oldest_that_asks_nothing_loses_its_place() -> None:
    places: Connections[Peer] = Connections(3)
    busy, idle, last = (Peer(asks_nothing=nothing) for nothing in (False, True, True))
    assert all(places.admit(one) for one in (busy, idle, last))
    assert places.admit(Peer(asks_nothing=False))
    assert (idle.dropped, last.dropped, busy.dropped, len(places), places.displaced) == (
        True,
        False,
        False,
        3,
        1,
    )
    places.discard(idle)
    places.discard(busy)
    assert busy not in set(places)
    assert len(places) == 2


def test_many_busy_ones_are_looked_through_bit_by_bit() -> None:
    places: Connections[Peer] = Connections(201)
    for _ in range(200):
        places.admit(Peer(asks_nothing=False))
    idle = Peer(asks_nothing=True)
    places.admit(idle)
    admitted = [places.admit(Peer(asks_nothing=False)) for _ in range(5)]
    assert admitted == [False, False, False, True, False]
    assert idle.dropped
    assert len(places) == 201


def test_they_may_leave_while_they_are_gone_through() -> None:
    places: Connections[Peer] = Connections(9)
    for _ in range(3):
        places.admit(Peer(asks_nothing=True))
    for one in places:
        places.discard(one)
    assert len(places) == 0
