"""User data from the machines of this node to the drivers that carry their networks: from guest to guest's own port.

It stands in what is wanted of a machine and nowhere else; drivers do not see each other, so the agent hands it over.
"""

from collections.abc import Iterable, Mapping

import structlog

from penstock.agent.link import Item
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.drivers.base import Driver, GivesUserData, ServesUserData

log = structlog.get_logger(__name__)


class UserData:
    """What guests of this node may read as their user data, by the device that each is plugged in with."""

    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self._givers = {name: one for name, one in drivers.items() if isinstance(one, GivesUserData)}
        self._servers = [one for one in drivers.values() if isinstance(one, ServesUserData)]
        self._by_tap: dict[str, bytes] | None = None

    def take(self, items: Iterable[Item]) -> None:
        """Learn it from everything that is wanted on this node, and serve it."""
        if not self._givers or not self._servers:
            return
        found: dict[str, bytes] = {}
        for item in items:
            giver = self._givers.get(item.driver)
            if giver is None or item.wanted != "present":
                continue
            try:
                found |= giver.user_data_of(item.config)
            except InvalidInputError as error:  # its driver says so to whoever asked for that machine, too
                log.debug("no_user_data", allocation=item.allocation_id, field=error.field)
        self._by_tap = found
        self.serve()

    def serve(self) -> None:
        """See to it that this is what is served, nothing before anything was learnt; repeatable."""
        for server in self._servers if self._by_tap is not None else ():
            try:
                server.serve_user_data(self._by_tap or {})
            except (PenstockError, OSError) as error:
                log.warning(
                    "user_data_not_served", error=str(error)
                )  # names a file at most; tried again soon
