"""What a port is called on a host, and its hardware address."""

from penstock.base.clock import SystemClock
from penstock.base.ids import new_id
from penstock.domain.port import mac_of, tap_name


def test_names_and_macs_are_stable_and_differ_between_ports() -> None:
    now = SystemClock().now()
    ids = [new_id("port", now) for _ in range(1_000)]
    names = {tap_name(one) for one in ids}
    assert len(names) == len(ids)
    assert all(len(name) == 15 for name in names)
    macs = {mac_of(one) for one in ids} | {mac_of(one, 1) for one in ids}
    assert len(macs) == 2 * len(ids)
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "local, unicast"
    assert mac_of(ids[0]) == mac_of(ids[0])
