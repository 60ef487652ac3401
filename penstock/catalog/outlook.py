"""Reads the outlook: which orders are to be expected, from the latest ones, waiting and ended ones included."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.errors import PenstockError
from penstock.catalog.kinds import kind_named
from penstock.catalog.known import read_known
from penstock.domain.device import DeviceClass
from penstock.scheduler.outlook import Demand, Outlook, PowerWeight, demand_of
from penstock.store import policy as policy_store
from penstock.store import service as service_store


class OutlookReader:
    """The outlook as of the last look; it is looked at again once enough new orders came."""

    def __init__(self, classes: Mapping[str, DeviceClass]) -> None:
        self._classes = classes
        self._seen: str | None = None
        self._demands: Counter[Demand] = Counter()
        self._percent: int = 0
        self.outlook = _outlook(classes, Counter(), 0)

    def refresh(self, connection: Connection) -> bool:
        """Look again if it is time (``connection`` is of the system scope); return whether the outlook changed."""
        percent = policy_store.read(connection).power_weight_percent
        if percent != self._percent:
            self._percent, before = percent, self.outlook
            self.outlook = _outlook(self._classes, self._demands, percent)
            return self.outlook.digest != before.digest
        if self._seen is not None:
            wanted = limits.OUTLOOK_EVERY_ORDERS
            if service_store.ordered_since(connection, self._seen, wanted)[0] < wanted:
                return False
        rows = service_store.latest_orders(connection, limits.OUTLOOK_ORDERS_MAX, limits.OUTLOOK_SHAPES_MAX)
        self._seen = max((row["last"] for row in rows), default="")
        known = read_known(connection, self._classes)
        seen: Counter[Demand] = Counter()
        for row in rows:
            try:
                order = kind_named(row["kind"]).compile(row["spec"], known)
            except PenstockError:
                continue  # a class or model of it is gone: nothing like it is to be expected
            for ask in order.asks:
                seen[demand_of(ask)] += row["orders"]
        self._demands = seen
        before, self.outlook = self.outlook, _outlook(self._classes, seen, percent)
        return self.outlook.digest != before.digest


def _outlook(classes: Mapping[str, DeviceClass], seen: Counter[Demand], percent: int) -> Outlook:
    draws_mw = {name: (one.idle_mw, one.load_mw) for name, one in classes.items()}
    slices = {name: one.slices for name, one in classes.items()}
    return Outlook(seen.items(), slices, PowerWeight(percent, draws_mw))
