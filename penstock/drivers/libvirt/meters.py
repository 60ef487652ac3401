"""What libvirt counts of a machine, under our names; all are counters or bytes held now."""

from collections.abc import Mapping
from typing import Any

HELD = "held"  # the power of a machine whose disk could not be written: QEMU keeps it where it is
_RUNNING = (1, 2, 3)  # virDomainState: running, blocked, paused: QEMU is there
_PAUSED, _IO_ERROR = 3, 5  # virDomainState and virDomainPausedReason


def power_of(stats: Mapping[str, Any] | None) -> str:
    """Return ``on``, ``off`` or ``held`` from a domain's statistics; None: there is no domain."""
    if stats is None:
        return "off"
    return power_of_state(stats.get("state.state"), stats.get("state.reason"))


def power_of_state(state: int | None, reason: int | None) -> str:
    """Return ``on``, ``off`` or ``held`` from what libvirt says of a domain."""
    if (state, reason) == (_PAUSED, _IO_ERROR):
        return HELD
    return "on" if state in _RUNNING else "off"


def meters_of(stats: Mapping[str, Any]) -> dict[str, int]:
    """Return CPU time, memory, disk and network of a machine since its start; what libvirt cannot say now is left out.

    ``memory_host_bytes`` is what QEMU occupies on the node, ``memory_guest_bytes`` what the guest uses, where it says.
    """
    found: dict[str, int] = {}
    if "cpu.time" in stats:
        found["cpu_time_us"] = int(stats["cpu.time"]) // 1_000
    rss = stats.get("balloon.rss")
    if rss is not None:
        found["memory_host_bytes"] = int(rss) << 10
    available, unused = stats.get("balloon.available"), stats.get("balloon.unused")
    if available is not None and unused is not None:
        found["memory_guest_bytes"] = (int(available) - int(unused)) << 10
    found |= _summed(
        stats,
        "block",
        {
            "rd.bytes": "disk_read_bytes",
            "wr.bytes": "disk_written_bytes",
            "rd.reqs": "disk_reads",
            "wr.reqs": "disk_writes",
        },
    )
    found |= _summed(
        stats,
        "net",
        {
            "rx.bytes": "network_received_bytes",
            "tx.bytes": "network_sent_bytes",
            "rx.pkts": "network_received_packets",
            "tx.pkts": "network_sent_packets",
            "rx.drop": "network_received_drops",
        },
    )
    return found


def _summed(stats: Mapping[str, Any], group: str, names: Mapping[str, str]) -> dict[str, int]:
    count = int(stats.get(f"{group}.count", 0))
    if count == 0:
        return {}
    return {
        ours: sum(int(stats.get(f"{group}.{number}.{theirs}", 0)) for number in range(count))
        for theirs, ours in names.items()
    }
