"""The simulated site as a driver: it holds devices as hardware would, and forgets nothing when killed.

"Already there" is an allocation that holds exactly what is asked; "already gone" one the journal does not
know. The world itself refuses to give one slice of a device to two allocations, so a control plane that
double-sells is caught here and not only in its own books.
"""

import threading
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import InvalidInputError
from penstock.base.units import US_PER_SECOND
from penstock.domain.device import SLICES_MAX, DeviceClass, load_device_classes
from penstock.drivers.base import Capabilities, Config, Inventory, Observed, Phase, Reading, Wanted
from penstock.drivers.simulated.journal import Journal
from penstock.drivers.simulated.sensors import simulated_reading
from penstock.drivers.simulated.site import SiteSpec, node_facts

JOURNAL_BYTES_MAX = 32 << 20
WAKE_SECONDS = (
    90  # from power to use; what a server with eight accelerators takes is minutes, this one is simulated
)
_FIELDS = frozenset({"node", "devices", "start_seconds"})


@dataclass(frozen=True, slots=True)
class _Held:
    """One allocation as the hardware knows it."""

    allocation_id: str
    generation: int
    node: str
    pieces: tuple[tuple[int, int], ...]  # device index, slice mask
    ready_at_us: int
    made_at_us: int

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.allocation_id,
            "generation": self.generation,
            "node": self.node,
            "pieces": self.pieces,
            "ready_at_us": self.ready_at_us,
            "made_at_us": self.made_at_us,
        }


class SimulatedDriver:
    """Drives the nodes of one simulated site."""

    name: ClassVar[str] = "simulated"
    simulated: ClassVar[bool] = True

    def __init__(self, state_dir: Path, clock: Clock, spec: SiteSpec) -> None:
        self._clock = clock
        self._spec = spec
        self._facts = node_facts(spec)
        self._devices = {fact.name: len(fact.devices) for fact in self._facts}
        self._class = load_device_classes().get(spec.device_class)
        self._whole_mask = _whole_mask(self._class)
        self._lock = threading.Lock()
        self._journal = Journal(state_dir / "world.jsonl")
        self._held: dict[str, _Held] = {}
        self._used: dict[tuple[str, int], int] = {}
        self._ready: dict[str, Observed] = {}  # what is ready says the same until something happens to it
        self._failed_nodes: set[str] = set()
        self._powered: dict[
            str, int
        ] = {}  # by node: since when it is off (negative), or on again; microseconds
        self._compacted_bytes = 0
        self._journal.hold()
        try:
            self._remember()
            self._compact()
        except BaseException:
            self._journal.close()
            raise

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError unless ``config`` names a node of this site and devices it has."""
        unknown = sorted(set(config) - _FIELDS)
        if unknown:
            raise InvalidInputError("a simulated allocation has no such field", field=unknown[0])
        node, pieces, _ = _parse(config)
        if node not in self._devices:
            raise InvalidInputError(f"no node '{node}' in this simulated site", field="node")
        if any(not 0 <= index < self._devices[node] for index, _ in pieces):
            raise InvalidInputError(f"node '{node}' has {self._devices[node]} devices", field="devices.index")
        if any(mask & ~self._whole_mask for _, mask in pieces):
            slices = self._whole_mask.bit_count()
            raise InvalidInputError(f"a device of this site has {slices} slices", field="devices.mask")

    def inventory(self) -> Inventory:
        """Report every node of the site."""
        return Inventory(tuple(self._facts))

    def capabilities(self) -> Capabilities:
        """Carry GPU services; nothing of it is real."""
        return Capabilities(kinds=frozenset({"gpu"}), simulated=True)

    def ensure(self, wanted: Wanted) -> Observed:
        """Hold the devices of ``wanted``; a slice that another allocation holds answers FAILED ``device_busy``."""
        return self.ensure_many([wanted])[0]

    def ensure_many(self, wanted: Sequence[Wanted]) -> Sequence[Observed]:
        """Like ``ensure`` for each; one journal write for all."""
        now_us = to_epoch_us(self._clock.now())
        with self._lock:
            lines: list[dict[str, Any]] = []
            answers = [self._ensure(one, now_us, lines) for one in wanted]
            self._write(lines)
        return answers

    def observe(self) -> Sequence[Observed]:
        """Report all that is held on nodes that answer."""
        now_us = to_epoch_us(self._clock.now())
        with self._lock:
            return [
                self._observed(held, now_us)
                for held in self._held.values()
                if held.node not in self._failed_nodes
            ]

    def remove(self, allocation_id: str) -> Observed:
        """Let go of an allocation's devices; on a failed node it stays PENDING until the node is healed."""
        return self.remove_many([allocation_id])[0]

    def remove_many(self, allocation_ids: Sequence[str]) -> Sequence[Observed]:
        """Like ``remove`` for each; one journal write for all."""
        with self._lock:
            lines: list[dict[str, Any]] = []
            answers: list[Observed] = []
            for allocation_id in allocation_ids:
                held = self._held.get(allocation_id)
                if held is not None and held.node in self._failed_nodes:
                    answers.append(Observed(allocation_id, held.generation, Phase.PENDING))
                    continue
                if held is not None:
                    lines.append({"gone": allocation_id})
                    self._let_go(held)
                answers.append(Observed(allocation_id, 0, Phase.ABSENT))
            self._write(lines)
        return answers

    def fail_node(self, node_name: str) -> None:
        """Make a node silent, as if its power were gone; InvalidInputError if there is no such node."""
        self._set_failed(node_name, failed=True)

    def heal_node(self, node_name: str) -> None:
        """Bring a node back; what it held is gone, as after a power cut."""
        self._set_failed(node_name, failed=False)

    def power(self) -> dict[str, str]:
        """Say of each node whether it is on, off, or was turned on less than WAKE_SECONDS ago."""
        now_us = to_epoch_us(self._clock.now())
        with self._lock:
            return {node: self._power_of(node, now_us) for node in self._devices}

    def set_power(self, node_name: str, *, on: bool) -> None:
        """Turn a node on or off; InvalidInputError if there is no such node. Turning it off ends what runs there."""
        if node_name not in self._devices:
            raise InvalidInputError(f"no node '{node_name}' in this simulated site", field="node")
        now_us = to_epoch_us(self._clock.now())
        with self._lock:
            if on != (self._power_of(node_name, now_us) == "off"):
                return
            line = {"powered": node_name, "at_us": now_us if on else -now_us}
            self._replay(line)
            self._write([line])

    def _power_of(self, node: str, now_us: int) -> str:
        since_us = self._powered.get(node, 0)
        if since_us < 0:
            return "off"
        return "waking" if since_us and now_us < since_us + WAKE_SECONDS * US_PER_SECOND else "on"

    def sensors(self) -> list[Reading]:
        """Say what the devices of nodes that are on and answer would measure; of a class that nobody described, nothing."""
        known = self._class
        if known is None:
            return []
        now_us = to_epoch_us(self._clock.now())
        with self._lock:
            busy: Counter[tuple[str, int]] = Counter()
            for held in self._held.values():
                share = self._observed(held, now_us).busy_permille or 0
                for index, mask in held.pieces:
                    busy[(held.node, index)] += share * mask.bit_count() // known.slices
            awake = [
                (node, devices)
                for node, devices in self._devices.items()
                if node not in self._failed_nodes and self._power_of(node, now_us) != "off"
            ]
            return [
                simulated_reading(known, node, index, busy[(node, index)])
                for node, devices in awake
                for index in range(devices)
            ]

    def silent_nodes(self) -> list[str]:
        """Return the names of failed nodes."""
        with self._lock:
            return sorted(self._failed_nodes)

    def world(self) -> dict[tuple[str, int, int], str]:
        """Return who holds each (node, device index, slice): the oracle's view of the hardware."""
        with self._lock:
            return {
                (held.node, index, bit): held.allocation_id
                for held in self._held.values()
                for index, mask in held.pieces
                for bit in range(mask.bit_length())
                if mask >> bit & 1
            }

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _ensure(self, wanted: Wanted, now_us: int, lines: list[dict[str, Any]]) -> Observed:
        node, pieces, start_seconds = _parse(wanted.config)
        held = self._held.get(wanted.allocation_id)
        if node in self._failed_nodes or self._power_of(node, now_us) != "on":
            return Observed(wanted.allocation_id, wanted.generation, Phase.PENDING)
        if held is not None and (held.node, held.pieces) == (node, pieces):
            if held.generation != wanted.generation:
                held = _Held(
                    held.allocation_id, wanted.generation, node, pieces, held.ready_at_us, held.made_at_us
                )
                self._held[held.allocation_id] = held
                self._ready.pop(held.allocation_id, None)
                lines.append({"held": held.to_json()})
            return self._observed(held, now_us)
        if any(
            not 0 <= index < self._devices.get(node, 0) or mask & ~self._whole_mask for index, mask in pieces
        ):
            return _failed(wanted, "no_such_device", f"this site has no such device on node '{node}'")
        if held is not None:
            lines.append({"gone": held.allocation_id})
            self._let_go(held)
        for index, mask in pieces:
            if self._used.get((node, index), 0) & mask:
                return _failed(
                    wanted, "device_busy", f"device {index} of {node} is held by another allocation"
                )
        made = _Held(
            wanted.allocation_id,
            wanted.generation,
            node,
            pieces,
            now_us + int(start_seconds * US_PER_SECOND),
            now_us,
        )
        lines.append({"held": made.to_json()})
        self._take(made)
        return self._observed(made, now_us)

    def _observed(self, held: _Held, now_us: int) -> Observed:
        known = self._ready.get(held.allocation_id)
        if known is None:
            known = _observed(held, now_us)
            if known.phase is Phase.READY:
                self._ready[held.allocation_id] = known
        return known

    def _take(self, held: _Held) -> None:
        self._held[held.allocation_id] = held
        self._ready.pop(held.allocation_id, None)
        for index, mask in held.pieces:
            self._used[(held.node, index)] = self._used.get((held.node, index), 0) | mask

    def _let_go(self, held: _Held) -> None:
        del self._held[held.allocation_id]
        self._ready.pop(held.allocation_id, None)
        for index, mask in held.pieces:
            self._used[(held.node, index)] = self._used.get((held.node, index), 0) & ~mask

    def _set_failed(self, node_name: str, *, failed: bool) -> None:
        if node_name not in self._devices:
            raise InvalidInputError(f"no node '{node_name}' in this simulated site", field="node")
        with self._lock:
            line = {"failed" if failed else "healed": node_name}
            self._replay(line)
            self._write([line])

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if lines:
            try:
                self._journal.append(lines)
            except OSError:
                self._remember()  # what could not be written down did not happen
                raise
            # Twice what was left by the last time, so that a large world is not rewritten at every change.
            if self._journal.size_bytes > max(JOURNAL_BYTES_MAX, 2 * self._compacted_bytes):
                self._compact()

    def _remember(self) -> None:
        """Make the journal's world ours."""
        self._held.clear()
        self._used.clear()
        self._ready.clear()
        self._failed_nodes.clear()
        self._powered.clear()
        for line in self._journal.read():
            self._replay(line)

    def _replay(self, line: Mapping[str, Any]) -> None:
        if "held" in line:
            told = line["held"]
            if told["id"] in self._held:
                self._let_go(self._held[told["id"]])
            pieces = tuple((int(index), int(mask)) for index, mask in told["pieces"])
            self._take(
                _Held(
                    told["id"],
                    told["generation"],
                    told["node"],
                    pieces,
                    told["ready_at_us"],
                    told["made_at_us"],
                )
            )
        elif "gone" in line and line["gone"] in self._held:
            self._let_go(self._held[line["gone"]])
        elif "powered" in line:
            self._powered[line["powered"]] = line["at_us"]
            for held in [
                one for one in self._held.values() if line["at_us"] < 0 and one.node == line["powered"]
            ]:
                self._let_go(held)
        elif "failed" in line:
            self._failed_nodes.add(line["failed"])
        elif "healed" in line and line["healed"] in self._failed_nodes:
            self._failed_nodes.discard(line["healed"])
            for held in [held for held in self._held.values() if held.node == line["healed"]]:
                self._let_go(held)

    def _compact(self) -> None:
        lines: list[dict[str, Any]] = [{"held": held.to_json()} for held in self._held.values()]
        lines += [{"failed": node} for node in sorted(self._failed_nodes)]
        lines += [{"powered": node, "at_us": at_us} for node, at_us in sorted(self._powered.items())]
        self._journal.rewrite(lines)
        self._compacted_bytes = self._journal.size_bytes


def _whole_mask(known: DeviceClass | None) -> int:
    """Return the mask of all slices of a class; of a class that nobody described, as many as can be."""
    return known.whole_mask if known is not None else (1 << SLICES_MAX) - 1


def _parse(config: Config) -> tuple[str, tuple[tuple[int, int], ...], float]:
    """Return node, pieces and delay; InvalidInputError names the field that is missing or wrong."""
    node = config.get("node")
    if not isinstance(node, str) or not node:
        raise InvalidInputError("'node' is the name of a node", field="node")
    devices = config.get("devices")
    if not isinstance(devices, list | tuple) or not devices:
        raise InvalidInputError("'devices' is a list of {index, mask}", field="devices")
    pieces: list[tuple[int, int]] = []
    for device in devices:
        row = cast("Mapping[str, Any]", device if isinstance(device, Mapping) else {})
        index, mask = row.get("index"), row.get("mask")
        if type(index) is not int or type(mask) is not int or mask <= 0:  # JSON's true is no number
            raise InvalidInputError("each device has an 'index' and a positive 'mask'", field="devices")
        pieces.append((index, mask))
    if len({index for index, _ in pieces}) != len(pieces):
        raise InvalidInputError("the same device is named twice", field="devices")
    delay = config.get("start_seconds", 0.0)
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= 3_600:
        raise InvalidInputError("'start_seconds' is 0 to 3600", field="start_seconds")
    return node, tuple(sorted(pieces)), float(delay)


def _observed(held: _Held, now_us: int) -> Observed:
    if now_us < held.ready_at_us:
        return Observed(held.allocation_id, held.generation, Phase.STARTED, {"started": held.made_at_us})
    return Observed(
        held.allocation_id,
        held.generation,
        Phase.READY,
        {"started": held.made_at_us, "ready": held.ready_at_us},
        # Deterministic per allocation and never idle: a simulated tenant keeps its devices busy.
        busy_permille=300 + zlib.crc32(held.allocation_id.encode()) % 700,
    )


def _failed(wanted: Wanted, code: str, message: str) -> Observed:
    return Observed(wanted.allocation_id, wanted.generation, Phase.FAILED, code=code, message=message)
