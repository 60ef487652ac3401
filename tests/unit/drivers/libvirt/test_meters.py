"""libvirt's counters under our names."""

from penstock.drivers.libvirt.meters import meters_of, power_of

STATS = {
    "state.state": 1,
    "cpu.time": 2_000_000,
    "balloon.rss": 10,
    "balloon.available": 8,
    "balloon.unused": 3,
    "block.count": 2,
    "block.0.rd.bytes": 5,
    "block.1.rd.bytes": 6,
    "block.0.wr.reqs": 1,
    "net.count": 1,
    "net.0.rx.bytes": 7,
    "net.0.tx.pkts": 2,
}


def test_disks_and_interfaces_add_up() -> None:
    found = meters_of(STATS)
    assert found["cpu_time_us"] == 2_000
    assert (found["memory_host_bytes"], found["memory_guest_bytes"]) == (10 << 10, 5 << 10)
    assert (found["disk_read_bytes"], found["disk_writes"]) == (11, 1)
    assert (found["network_received_bytes"], found["network_sent_packets"]) == (7, 2)


def test_what_is_not_said_is_left_out() -> None:
    assert meters_of({}) == {}
    assert power_of(STATS) == "on"
    assert power_of({"state.state": 5}) == power_of(None) == "off"
    assert power_of({"state.state": 3, "state.reason": 2}) == "on", "held for a moment while it moves"
    assert power_of({"state.state": 3, "state.reason": 5}) == "held", "its disk cannot be written"
