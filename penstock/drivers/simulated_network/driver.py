"""The six verbs over a folder, one file per network on the host; no packet ever travels."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, ClassVar

import orjson

from penstock.base.clock import Clock, to_epoch_us
from penstock.drivers.base import Capabilities, Config, Inventory, Observed, Phase, Wanted
from penstock.drivers.network.model import HostNetwork, read
from penstock.drivers.network.reach import Verdict, judge


class SimulatedNetworkDriver:
    """Networks on one imagined host, kept in ``folder``."""

    name: ClassVar[str] = "simulated_network"
    simulated: ClassVar[bool] = True

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        folder.mkdir(parents=True, exist_ok=True)

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field unless the config is a network on a host."""
        read(config)

    def inventory(self) -> Inventory:
        """Report nothing: hosts are nodes that another driver reports."""
        return Inventory()

    def capabilities(self) -> Capabilities:
        """Carry networks, in imagination."""
        return Capabilities(kinds=frozenset({"network"}), simulated=True)

    def ensure(self, wanted: Wanted) -> Observed:
        """Keep what is wanted; READY at once."""
        read(wanted.config)
        known = self._read(wanted.allocation_id)
        now_us = to_epoch_us(self._clock.now())
        at_us: dict[str, int] = known["at_us"] if known else {"started": now_us, "ready": now_us}
        facts = {"generation": wanted.generation, "at_us": at_us, "config": wanted.config}
        draft = self._folder / f"{wanted.allocation_id}.new"
        draft.write_bytes(orjson.dumps(facts))
        draft.replace(self._file(wanted.allocation_id))
        return Observed(wanted.allocation_id, wanted.generation, Phase.READY, at_us=at_us)

    def observe(self) -> Sequence[Observed]:
        """Report every network that is kept."""
        found: list[Observed] = []
        for file in sorted(self._folder.glob("*.json")):
            facts = self._read(file.stem)
            if facts is not None:
                found.append(Observed(file.stem, facts["generation"], Phase.READY, at_us=facts["at_us"]))
        return found

    def remove(self, allocation_id: str) -> Observed:
        """Forget the network."""
        self._file(allocation_id).unlink(missing_ok=True)
        return Observed(allocation_id, 0, Phase.ABSENT)

    def networks(self) -> list[HostNetwork]:
        """Return what is kept, as it was understood."""
        facts = [self._read(file.stem) for file in sorted(self._folder.glob("*.json"))]
        return [read(one["config"]) for one in facts if one is not None]

    def _file(self, allocation_id: str) -> Path:
        return self._folder / f"{allocation_id}.json"

    def _read(self, allocation_id: str) -> dict[str, Any] | None:
        try:
            facts: dict[str, Any] = orjson.loads(self._file(allocation_id).read_bytes())
        except FileNotFoundError:
            return None
        return facts


def verdict(
    drivers: Sequence[SimulatedNetworkDriver],
    network: str,
    source: IPv4Address,
    target: IPv4Address,
    protocol: str,
    port: int | None,
) -> Verdict:
    """Return what would become of a packet of a network that these hosts carry, to itself or to a peer."""
    every = [one for driver in drivers for one in driver.networks()]
    hosts = [one for one in every if one.network == network]
    others = [one for one in every if one.network != network]
    return (
        judge(hosts, source, target, protocol, port, others)
        if hosts
        else Verdict(passes=False, why="no such network")
    )
