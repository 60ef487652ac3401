"""The six verbs over a folder, one file per load balancer on the host; no connection is ever taken."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import orjson

from penstock.base.clock import Clock, to_epoch_us
from penstock.domain.load_balancer import MemberState
from penstock.drivers.base import Capabilities, Config, Inventory, Json, Observed, Phase, Wanted
from penstock.drivers.load_balancer.model import CertificateSource, LoadBalancer, parse


class SimulatedLoadBalancerDriver:
    """Load balancers on one imagined host, kept in ``folder``; ``ill`` are members (``address:port``) that are down, ``counted`` what it says."""

    name: ClassVar[str] = "simulated_load_balancer"
    simulated: ClassVar[bool] = True

    def __init__(self, folder: Path, clock: Clock, certificates: CertificateSource | None = None) -> None:
        self._folder = folder
        self._clock = clock
        self._certificates = certificates
        self.ill: set[str] = set()
        self.counted: dict[str, int] = {"run": 1, "sessions": 0, "received_bytes": 0, "sent_bytes": 0}
        folder.mkdir(parents=True, exist_ok=True)

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field unless the config is a load balancer."""
        parse(config)

    def inventory(self) -> Inventory:
        """Report nothing: hosts are nodes that another driver reports."""
        return Inventory()

    def capabilities(self) -> Capabilities:
        """Carry load balancers, in imagination."""
        return Capabilities(kinds=frozenset({"load_balancer"}), simulated=True)

    def ensure(self, wanted: Wanted) -> Observed:
        """Keep what is wanted, ask for its certificates as a real one does; READY at once."""
        for one in parse(wanted.config).listeners:
            if one.certificate is not None and self._certificates is not None:
                self._certificates.content(one.certificate)
        known = self._read(wanted.allocation_id)
        now_us = to_epoch_us(self._clock.now())
        at_us: dict[str, int] = known["at_us"] if known else {"started": now_us, "ready": now_us}
        facts = {"generation": wanted.generation, "at_us": at_us, "config": wanted.config}
        draft = self._folder / f"{wanted.allocation_id}.new"
        draft.write_bytes(orjson.dumps(facts))
        draft.replace(self._file(wanted.allocation_id))
        return self._observed(wanted.allocation_id, facts)

    def observe(self) -> Sequence[Observed]:
        """Report every load balancer that is kept."""
        found: list[Observed] = []
        for file in sorted(self._folder.glob("*.json")):
            facts = self._read(file.stem)
            if facts is not None:
                found.append(self._observed(file.stem, facts))
        return found

    def remove(self, allocation_id: str) -> Observed:
        """Forget the load balancer."""
        self._file(allocation_id).unlink(missing_ok=True)
        return Observed(allocation_id, 0, Phase.ABSENT)

    def balancers(self) -> list[LoadBalancer]:
        """Return what is kept, as it was understood."""
        facts = [self._read(file.stem) for file in sorted(self._folder.glob("*.json"))]
        return [parse(one["config"]) for one in facts if one is not None]

    def _observed(self, allocation_id: str, facts: dict[str, Any]) -> Observed:
        health: dict[str, Json] = {
            one.key: [self._state(one.key, one.weight), "simulated"] for one in parse(facts["config"]).members
        }
        meters: dict[str, Json] = {**self.counted, "open_sessions": 0}
        return Observed(
            allocation_id,
            facts["generation"],
            Phase.READY,
            at_us=facts["at_us"],
            detail={"health": health, "meters": meters},
        )

    def _state(self, key: str, weight: int) -> str:
        if key in self.ill:
            return MemberState.DOWN
        return MemberState.UP if weight else MemberState.DRAINING

    def _file(self, allocation_id: str) -> Path:
        return self._folder / f"{allocation_id}.json"

    def _read(self, allocation_id: str) -> dict[str, Any] | None:
        try:
            facts: dict[str, Any] = orjson.loads(self._file(allocation_id).read_bytes())
        except FileNotFoundError:
            return None
        return facts
