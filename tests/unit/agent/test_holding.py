"""Drivers that must have their host to themselves are offered while they have it, and a note says why not."""

from typing import Any, cast

from penstock.agent import holding
from penstock.drivers.base import Driver
from tests.support.infrastructure import node_facts

WHY = "this host belongs to another agent"


class _Held:
    """A driver as far as this goes; another agent has its host if ``why`` says so."""

    def __init__(self, why: str | None) -> None:
        self.why = why

    def refused(self) -> str | None:
        return self.why


def _drivers(**more: Any) -> dict[str, Driver]:
    return cast("dict[str, Driver]", {"engine": object(), **more})


def test_a_driver_whose_host_another_agent_has_is_not_offered_and_the_node_says_why_once() -> None:
    drivers = _drivers(nftables=_Held(WHY), haproxy=_Held(WHY))
    assert holding.offered(drivers) == ["engine"]
    (node,) = holding.noted([node_facts("n1", devices=1)], drivers)
    assert node.notes[-1] == WHY
    assert list(node.notes).count(WHY) == 1


def test_a_driver_that_has_its_host_is_offered_without_a_word() -> None:
    drivers, before = _drivers(nftables=_Held(None)), node_facts("n1", devices=1)
    assert holding.offered(drivers) == ["engine", "nftables"]
    assert holding.noted([before], drivers) == [before]
