"""Fair shares as people read them: what is guaranteed to a tenant or project, used, borrowed from the idle, and left."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MILLI = 1_000


@dataclass(frozen=True, slots=True)
class Held:
    """Thousandths of devices of one class that a project runs and does not give up just now."""

    tenant_id: str
    project_id: str
    device_class: str
    milli: int


@dataclass(frozen=True, slots=True)
class Guarantee:
    """Devices that are promised to a tenant, or to one project of it; ``device_class`` None: of all classes together."""

    tenant_id: str
    project_id: str | None
    device_class: str | None
    devices: int


@dataclass(frozen=True, slots=True)
class Share:
    """One line: ``guaranteed`` in devices, the rest in thousandths of devices."""

    tenant_id: str
    project_id: str | None
    device_class: str | None
    guaranteed: int
    used_milli: int

    @property
    def borrowed_milli(self) -> int:
        """Return what runs above what is guaranteed: it goes back when its owner wants it."""
        return max(0, self.used_milli - self.guaranteed * MILLI)

    @property
    def idle_milli(self) -> int:
        """Return what is guaranteed and not used: others may borrow it."""
        return max(0, self.guaranteed * MILLI - self.used_milli)


def shares(guarantees: Iterable[Guarantee], held: Iterable[Held]) -> list[Share]:
    """Return a line for each guarantee and one for each tenant and class that runs without any that covers it.

    A guarantee of all classes covers what a tenant runs of every class; one of a class covers that class.
    """
    rows = list(held)
    lines: dict[tuple[str, str | None, str | None], int] = {}
    for one in guarantees:
        lines[one.tenant_id, one.project_id, one.device_class] = one.devices
    for row in rows:
        covered = any((row.tenant_id, None, name) in lines for name in (row.device_class, None))
        if not covered:
            lines[row.tenant_id, None, row.device_class] = 0
    found = [
        Share(tenant, project, device_class, devices, _used(rows, tenant, project, device_class))
        for (tenant, project, device_class), devices in lines.items()
    ]
    return sorted(
        found, key=lambda one: (one.device_class or "", -one.guaranteed, one.tenant_id, one.project_id or "")
    )


def _used(rows: Iterable[Held], tenant: str, project: str | None, device_class: str | None) -> int:
    return sum(
        row.milli
        for row in rows
        if row.tenant_id == tenant
        and project in (None, row.project_id)
        and device_class in (None, row.device_class)
    )


def unpromised(capacity: Mapping[str, int], guarantees: Iterable[Guarantee]) -> dict[str, int]:
    """Return the devices of each class that are guaranteed to no tenant."""
    left = dict(capacity)
    for one in guarantees:
        if one.project_id is None and one.device_class in left:
            left[one.device_class] = max(0, left[one.device_class] - one.devices)
    return left
