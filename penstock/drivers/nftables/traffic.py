"""What went through the networks of a host: the flow logs from where they were told last, and counters of ports.

Each network's folder says whose it is and what of it is wanted (``metadata.json``), and keeps the log that the
metadata service writes. How far it was told stands beside it, by inode and offset, so neither a restart nor a log
that was turned over loses or repeats an entry; what is more than a report holds is counted and left out.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from penstock.base import limits
from penstock.domain.flow import FlowLog
from penstock.domain.port import TAP_PREFIX, tap_name
from penstock.drivers.base import FlowSeen, PortCount, Traffic
from penstock.drivers.nftables import metadata, nft
from penstock.drivers.nftables.kernel import devices
from penstock.drivers.nftables.namespaces import inside

_TOLD = "flows.told"
_NETWORKS_AT_ONCE = 5  # of a busy host, in turn, share a report


@dataclass(frozen=True, slots=True)
class _Network:
    """What a network's folder says of it."""

    id: str
    router: Path
    log: FlowLog
    port_ids: tuple[str, ...]


def _network(folder: Path) -> _Network | None:
    try:
        said: dict[str, Any] = orjson.loads((folder / metadata.FILE).read_bytes())
    except FileNotFoundError:
        return None  # taken away at this moment
    ports = tuple(str(guest["port-id"]) for guest in said["guests"].values())
    log = FlowLog(said.get("flow_log", FlowLog.DROPS))
    return _Network(str(said.get("network", "")), Path(said["namespace"]), log, ports)


class TrafficReader:
    """Reads for one host; ``told`` makes what was read last count as told."""

    def __init__(self, folder: Path, host: Path | None) -> None:
        self._folder = folder
        self._host = host
        self._turn = 0
        self._read: dict[Path, dict[str, int]] = {}

    def read(self, networks: Collection[str], *, counts: bool) -> Traffic:
        """Return flows of ``networks`` (VNIs) since they were told last, and with ``counts`` what every port has counted."""
        folders = sorted(
            file.parent for file in self._folder.glob(f"*/{metadata.FILE}") if file.parent.name in networks
        )
        found = {folder: one for folder in folders if (one := _network(folder)) is not None}
        flows, lost = self._flows(found)
        return Traffic(flows, self._counts(list(found.values())) if counts else [], lost)

    def told(self) -> None:
        """Note how far was told."""
        for folder, mark in self._read.items():
            if folder.exists():
                draft = folder / f"{_TOLD}.new"
                draft.write_bytes(orjson.dumps(mark))
                draft.replace(folder / _TOLD)
        self._read.clear()

    def _flows(self, networks: dict[Path, _Network]) -> tuple[list[FlowSeen], int]:
        self._read.clear()
        news = [folder for folder in networks if _is_news(folder)]
        if not news:
            return [], 0
        self._turn = (self._turn + 1) % len(news)
        share = limits.FLOWS_PER_REPORT_MAX // min(len(news), _NETWORKS_AT_ONCE)
        flows: list[FlowSeen] = []
        lost = 0
        for folder in (news[self._turn :] + news[: self._turn])[:_NETWORKS_AT_ONCE]:
            network = networks[folder]
            lines, self._read[folder] = _since(folder)
            kept = [one for one in map(orjson.loads, lines) if network.log.keeps(one["verdict"])]
            lost += max(0, len(kept) - share)
            flows += [FlowSeen(network_id=network.id, **one) for one in kept[:share]]
        return flows, lost

    def _counts(self, networks: list[_Network]) -> list[PortCount]:
        taps = inside(self._host, _taps)
        found: list[PortCount] = []
        for network in networks:
            plugged = [port_id for port_id in network.port_ids if tap_name(port_id) in taps]
            if plugged and network.router.exists():
                dropped = nft.counters(network.router)
                found += [_count(port_id, taps[tap_name(port_id)], dropped) for port_id in plugged]
        return found


def _count(port_id: str, tap: dict[str, int], dropped: dict[str, int]) -> PortCount:
    """Return what a port counted, as its guest sees it: what the host's end sent, the guest received."""
    return PortCount(
        port_id,
        received_bytes=tap["tx_bytes"],
        received_packets=tap["tx_packets"],
        received_drops=tap["tx_dropped"] + dropped.get(f"in_{port_id}", 0),
        sent_bytes=tap["rx_bytes"],
        sent_packets=tap["rx_packets"],
        sent_drops=tap["rx_dropped"] + dropped.get(f"out_{port_id}", 0),
    )


def _taps() -> dict[str, dict[str, int]]:
    with devices() as ip:
        links = [link for link in ip.get_links() if str(link.get("ifname")).startswith(TAP_PREFIX)]
        return {str(link.get("ifname")): dict(link.get("stats64")) for link in links}


def _is_news(folder: Path) -> bool:
    try:
        now = (folder / metadata.FLOWS).stat()
    except FileNotFoundError:
        return False
    mark = _mark(folder)
    return mark is None or (mark["inode"], mark["offset"]) != (now.st_ino, now.st_size)


def _mark(folder: Path) -> dict[str, int] | None:
    try:
        mark: dict[str, int] = orjson.loads((folder / _TOLD).read_bytes())
    except FileNotFoundError:
        return None
    return mark


def _since(folder: Path) -> tuple[list[bytes], dict[str, int]]:
    """Return the whole lines that were not told yet, and the mark of where they end."""
    file = folder / metadata.FLOWS
    mark = _mark(folder) or {"inode": 0, "offset": 0}
    content = b""
    with file.open("rb") as handle:
        inode = _inode(handle.fileno())
        if mark["inode"] != inode:
            content = _rest(file.with_suffix(".old"), mark)
            mark = {"inode": inode, "offset": 0}
        handle.seek(mark["offset"])
        new = handle.read()
    whole = new[: new.rfind(b"\n") + 1]
    return (content + whole).splitlines(), {"inode": inode, "offset": mark["offset"] + len(whole)}


def _rest(old: Path, mark: dict[str, int]) -> bytes:
    """Return what was written behind the mark before the log was turned over."""
    try:
        with old.open("rb") as handle:
            if _inode(handle.fileno()) != mark["inode"]:
                return b""
            handle.seek(mark["offset"])
            return handle.read()
    except FileNotFoundError:
        return b""


def _inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino
