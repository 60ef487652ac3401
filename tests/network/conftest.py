"""Wires, hosts and guests of these tests, and the check that nothing is left behind."""

from collections.abc import Iterator

import pytest

from penstock.base.clock import SystemClock
from penstock.drivers.haproxy.driver import HaproxyDriver
from penstock.drivers.nftables import namespaces
from tests.support.network_hosts import Fabric, missing


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    """Wires between hosts; when the test ends every host must be as it was, and then goes."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    made = Fabric()
    try:
        yield made
        for host in made.hosts:
            balancers = HaproxyDriver(SystemClock(), host=host.path)
            for owner in balancers.owners():
                balancers.clear(owner)
            assert balancers.leaks() == []
            driver = host.driver()
            for owner in driver.owners():
                driver.clear(owner)
            assert driver.leaks() == []
            assert driver.owners() == {}
    finally:
        made.stop()
    assert [name for name in namespaces.names() if name.startswith(made.name)] == []
