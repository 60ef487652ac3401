"""Power budgets: how much may be drawn in a device, node, rack, row or site. They nest; no claim goes beyond one.

What counts is planned, not measured: a node that is on holds the power of its host at full load and the idle power
of its devices; a device on which anything runs, or that is booked, holds its load power. A node that sleeps holds
nothing. All amounts are whole milliwatts, so that sums are exact.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from penstock.domain.claim import DeviceState, NodeState

# A host per thread, on and at full load: CPU servers of the AcmeTrace data set (Hu et al., NSDI 2024; 128 threads)
# draw 468 W at the least and 654 W at the 80th percentile. An assumption for other hosts: linear in threads.
HOST_IDLE_MW_PER_THREAD = 3_660
HOST_FULL_MW_PER_THREAD = 5_110
MW_PER_WATT = 1_000


class PowerLevel(StrEnum):
    """Where a budget is; each is part of the next."""

    DEVICE = "device"
    NODE = "node"
    RACK = "rack"
    ROW = "row"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class PowerBudget:
    """A limit on what ``subject_id`` holds (a row: ``row_key``), and what it holds; ``limit_mw`` None: it was removed."""

    budget_id: str
    level: PowerLevel
    subject_id: str
    name: str
    limit_mw: int | None
    held_mw: int

    @property
    def words(self) -> str:
        """Return what it is a budget of, as a person says it."""
        return f"{self.level.value} {self.name}"

    def lacks_mw(self, added_mw: int) -> int:
        """Return by how much ``added_mw`` more would overdraw it. What adds nothing is always let through."""
        if self.limit_mw is None or added_mw <= 0:
            return 0
        return max(0, self.held_mw + added_mw - self.limit_mw)


@dataclass(frozen=True, slots=True)
class PowerShortage:
    """A budget that turns an order away: what it is and holds, and how much more of it the order would need."""

    budget_id: str
    level: PowerLevel
    name: str
    limit_watts: int
    held_watts: int
    lacking_watts: int

    @property
    def sentence(self) -> str:
        """Say it."""
        return (
            f"{self.level.value} {self.name} may draw {self.limit_watts:,} W and {self.held_watts:,} W of it are held: "
            f"{self.lacking_watts:,} W more would be needed"
        )

    def to_json(self) -> dict[str, object]:
        """Return plain data for the decision record."""
        return {
            "budget_id": self.budget_id,
            "level": self.level.value,
            "name": self.name,
            "limit_watts": self.limit_watts,
            "held_watts": self.held_watts,
            "lacking_watts": self.lacking_watts,
        }


def shortages(added_mw: Iterable[tuple[PowerBudget, int]]) -> tuple[PowerShortage, ...]:
    """Return which of the budgets would be overdrawn by what is added to each: the one judge, of planner and gate alike."""
    return tuple(
        PowerShortage(
            budget_id=budget.budget_id,
            level=budget.level,
            name=budget.name,
            limit_watts=(budget.limit_mw or 0) // MW_PER_WATT,
            held_watts=watts(budget.held_mw),
            lacking_watts=watts(lacking),
        )
        for budget, added in added_mw
        if (lacking := budget.lacks_mw(added))
    )


def row_key(site_id: str, row: str) -> str:
    """Return how a row of racks is named as the subject of a budget; rows are names within their site."""
    return f"{site_id}/{row}"


def subjects(node_id: str, rack_id: str | None, row: str | None, site_id: str) -> Mapping[PowerLevel, str]:
    """Return what a node is part of, by level: the subjects of the budgets above its devices."""
    found = {PowerLevel.NODE: node_id, PowerLevel.SITE: site_id}
    if rack_id is not None:
        found[PowerLevel.RACK] = rack_id
    if row is not None:
        found[PowerLevel.ROW] = row_key(site_id, row)
    return found


def host_mw(threads: int) -> int:
    """Return what a host with so many hardware threads holds of power while it is on."""
    return threads * HOST_FULL_MW_PER_THREAD


def watts(milliwatts: int) -> int:
    """Return whole watts, rounded up: what is held is never said to be less."""
    return -(-milliwatts // MW_PER_WATT)


Subject = tuple[PowerLevel, str]


class Added:
    """What grants add, one after the other, to the power that is held at each subject."""

    def __init__(self) -> None:
        self.mw: dict[Subject, int] = {}

    def add(self, node: NodeState, device: DeviceState | None, draw_mw: int) -> None:
        """Count one grant on the states just before it; ``draw_mw`` is what the device draws more under load than idle."""
        starts = draw_mw if device is not None and not device.draws else 0
        if starts and device is not None:
            self._add((PowerLevel.DEVICE, device.device_id), starts)
        added = starts + node.wake_mw
        if added:
            for level, subject_id in subjects(node.node_id, node.rack_id, node.row, node.site_id).items():
                self._add((level, subject_id), added)

    def at(self, budgets: Mapping[Subject, PowerBudget]) -> list[tuple[PowerBudget, int]]:
        """Return what is added to each budget, in a fixed order."""
        return [(budgets[key], self.mw[key]) for key in sorted(self.mw) if key in budgets]

    def _add(self, subject: Subject, mw: int) -> None:
        self.mw[subject] = self.mw.get(subject, 0) + mw
