"""What drivers report opens and closes the doors of the relay."""

from datetime import UTC, datetime

import pytest

from penstock.agent.doors import Doors
from penstock.base.ids import new_id
from penstock.drivers.base import Observed, Phase

REPLICA = new_id("allocation", datetime(2026, 1, 1, tzinfo=UTC))
URL = "https://10.0.0.17:7073"


class Routes:
    """A relay that only remembers."""

    url = URL

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}

    def lead(self, allocation_id: str, port: int) -> None:
        self.ports[allocation_id] = port

    def close(self, allocation_id: str) -> None:
        self.ports.pop(allocation_id, None)


def report(endpoint: str | None, phase: Phase = Phase.READY) -> Observed:
    return Observed(REPLICA, 3, phase, {"ready": 5}, endpoint, 7, "code", "message")


def test_a_loopback_address_becomes_the_relays_and_nothing_else_changes() -> None:
    routes = Routes()
    assert Doors(routes).shown(report("http://127.0.0.1:4711")) == report(URL)
    assert routes.ports == {REPLICA: 4711}
    assert Doors(routes).shown(report("http://127.0.0.1:4712")) == report(URL)
    assert routes.ports == {REPLICA: 4712}


@pytest.mark.parametrize("endpoint", [None, "https://10.1.1.1:1", "http://10.1.1.1:1", "http://127.0.0.1"])
def test_a_replica_that_listens_no_more_or_elsewhere_has_no_door(endpoint: str | None) -> None:
    routes = Routes()
    doors = Doors(routes)
    doors.shown(report("http://127.0.0.1:4711"))
    assert doors.shown(report(endpoint, Phase.STARTED)) == report(endpoint, Phase.STARTED)
    assert routes.ports == {}
