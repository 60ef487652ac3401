"""The six verbs over a folder, one file per partition."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import orjson

from penstock.base.clock import Clock, to_epoch_us
from penstock.drivers.base import Capabilities, Config, Inventory, Observed, Phase, Wanted
from penstock.drivers.fabric.config import check


class SimulatedFabricDriver:
    """Partitions of one imagined fabric, kept in ``folder``; no two have one key."""

    name: ClassVar[str] = "simulated_fabric"
    simulated: ClassVar[bool] = True

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        folder.mkdir(parents=True, exist_ok=True)

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field unless the config is a partition."""
        check(config)

    def inventory(self) -> Inventory:
        """Report nothing: nodes are reported by other drivers."""
        return Inventory()

    def capabilities(self) -> Capabilities:
        """Carry partitions, in imagination."""
        return Capabilities(kinds=frozenset({"fabric_partition"}), simulated=True)

    def ensure(self, wanted: Wanted) -> Observed:
        """Keep the partition; FAILED if another one has its key."""
        pkey, members = check(wanted.config)
        known = self._read()
        for allocation_id, facts in known.items():
            if facts["pkey"] == pkey and allocation_id != wanted.allocation_id:
                return Observed(
                    wanted.allocation_id,
                    wanted.generation,
                    Phase.FAILED,
                    code="key_taken",
                    message=f"another partition has the key {pkey:#06x}",
                )
        now_us = to_epoch_us(self._clock.now())
        mine = known.get(wanted.allocation_id)
        at_us: dict[str, int] = mine["at_us"] if mine else {"started": now_us, "ready": now_us}
        facts = {"generation": wanted.generation, "at_us": at_us, "pkey": pkey, "members": sorted(members)}
        draft = self._folder / f"{wanted.allocation_id}.new"
        draft.write_bytes(orjson.dumps(facts))
        draft.replace(self._folder / f"{wanted.allocation_id}.json")
        return _ready(wanted.allocation_id, facts)

    def observe(self) -> Sequence[Observed]:
        """Report every partition that is kept, with the key and the members that it has now."""
        return [_ready(allocation_id, facts) for allocation_id, facts in self._read().items()]

    def remove(self, allocation_id: str) -> Observed:
        """Forget the partition."""
        (self._folder / f"{allocation_id}.json").unlink(missing_ok=True)
        return Observed(allocation_id, 0, Phase.ABSENT)

    def _read(self) -> Mapping[str, dict[str, Any]]:
        return {file.stem: orjson.loads(file.read_bytes()) for file in sorted(self._folder.glob("*.json"))}


def _ready(allocation_id: str, facts: Mapping[str, Any]) -> Observed:
    detail = {"pkey": facts["pkey"], "members": facts["members"]}
    return Observed(allocation_id, facts["generation"], Phase.READY, at_us=facts["at_us"], detail=detail)
