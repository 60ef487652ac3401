"""The picture of the fleet that orders are planned on, kept fresh in O(changes).

Rows carry the id of the transaction that changed them last. A refresh reads rows changed since the oldest
transaction that was still open at the refresh before, so a change that committed late is never missed; some
rows are read twice, which is harmless. The picture may still be a moment old: the gate decides.
"""

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from sqlalchemy.engine import Connection

from penstock.catalog.outlook import OutlookReader
from penstock.domain.device import DeviceClass
from penstock.scheduler import Fleet
from penstock.store import fleet as fleet_store
from penstock.store.fleet import device_state, node_state


class FleetPicture:
    """A ``Fleet`` and how far it has been read."""

    def __init__(self, classes: Mapping[str, DeviceClass]) -> None:
        self._classes = classes
        self.fleet = Fleet(classes)
        self._read_to = 0
        self._outlook = OutlookReader(classes)

    def refresh(self, connection: Connection) -> int:
        """Bring in what changed; return how many rows were read."""
        changes = fleet_store.changes_since(connection, self._read_to)
        self.fleet.limit(changes.budgets)
        self.fleet.upsert_nodes(node_state(row) for row in changes.nodes)
        self.fleet.upsert_devices(
            device_state(row, changes.bookings.get(row["id"], ())) for row in changes.devices
        )
        self._read_to = changes.read_to
        if self._outlook.refresh(connection):
            self.fleet.expect(self._outlook.outlook)
        return len(changes.nodes) + len(changes.devices)

    def forget(self) -> None:
        """Start again from nothing at the next refresh; for when a plan and the gate disagree."""
        self.fleet = Fleet(self._classes)
        self.fleet.expect(self._outlook.outlook)
        self._read_to = 0


class SharedPicture:
    """A picture that many requests look at in turn, for planning without committing."""

    def __init__(self, classes: Mapping[str, DeviceClass]) -> None:
        self._picture = FleetPicture(classes)
        self._lock = threading.Lock()

    @contextmanager
    def fresh(self, connection: Connection) -> Generator[Fleet]:
        """Hold the fleet as ``connection`` (of the system scope) sees it now; put back what you change."""
        with self._lock:
            self._picture.refresh(connection)
            yield self._picture.fleet
