"""Which drivers may act on this host now: those that must have it to themselves wait while another agent has it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from penstock.drivers.base import Driver, HoldsHost, NodeFacts


def offered(drivers: Mapping[str, Driver]) -> list[str]:
    """Return the names of the drivers that may act here now, in order."""
    return sorted(name for name, driver in drivers.items() if _refused(driver) is None)


def noted(nodes: Sequence[NodeFacts], drivers: Mapping[str, Driver]) -> list[NodeFacts]:
    """Return nodes whose notes also say why drivers of theirs are not offered."""
    why = sorted({sentence for driver in drivers.values() if (sentence := _refused(driver)) is not None})
    return [replace(node, notes=(*node.notes, *why)) for node in nodes]


def _refused(driver: Driver) -> str | None:
    return driver.refused() if isinstance(driver, HoldsHost) else None
