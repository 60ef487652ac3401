"""Who is given up for a request that cannot wait: one of a batch, at an engine of the same service."""

from types import SimpleNamespace
from typing import Any

from penstock.gateway.fair_queue import BATCH
from penstock.gateway.giving_way import make_room


class Request:
    """A request in flight."""

    def __init__(self, router: object, priority: str, *, holds_engine: bool = True) -> None:
        # A model of its own: keys that see other sets of projects have one each, and every change makes new ones.
        self.model: Any = SimpleNamespace(router=router)
        self.priority = priority
        self.holds_engine = holds_engine
        self.gave_way = 0

    def give_way(self) -> None:
        self.gave_way += 1


def test_one_request_of_a_batch_at_an_engine_of_the_service_is_given_up() -> None:
    router, other = object(), object()
    first = [
        Request(router, "normal"),
        Request(other, BATCH),
        Request(router, BATCH, holds_engine=False),
    ]
    mine, next_one = Request(router, BATCH), Request(router, BATCH)
    make_room([object(), *first, mine, next_one], router)
    assert [one.gave_way for one in (*first, mine, next_one)] == [0, 0, 0, 1, 0]


def test_without_batches_nobody_is_given_up() -> None:
    router = object()
    running = [Request(router, "low"), Request(router, "normal")]
    make_room(running, router)
    assert not any(one.gave_way for one in running)
