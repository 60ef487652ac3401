"""The control plane as one object: production, the twin and the tests build the same one."""

from penstock.actions.context import Context
from penstock.base.clock import Clock
from penstock.domain.device import load_device_classes
from penstock.store.database import Database
from penstock.store.wakeups import Wakeups


class ControlPlane:
    """Database, clock and wake-ups behind one ``context``, and the loops that act by themselves."""

    def __init__(self, database_url: str, clock: Clock, *, connections: int = 16) -> None:
        self.clock = clock
        self.db = Database(database_url, connections=connections)
        self.wakeups = Wakeups()
        self.context = Context(self.db, clock, self.wakeups, load_device_classes())

    def close(self) -> None:
        """Stop the loops and give every connection back."""
        self.wakeups.stop()
        self.db.dispose()
