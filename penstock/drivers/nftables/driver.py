"""The six verbs over Linux: an allocation is a network on this host."""

import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from shutil import rmtree
from typing import Any, ClassVar

import orjson
import structlog

from penstock.base.clock import Clock, to_epoch_us
from penstock.base.errors import ConflictError, DriverError
from penstock.drivers.base import Capabilities, Check, Config, Inventory, Observed, Phase, Traffic, Wanted
from penstock.drivers.network.model import HostNetwork, read
from penstock.drivers.nftables import (
    guard,
    guest_files,
    host_lock,
    host_peers,
    links,
    metadata,
    names,
    namespaces,
    nft,
    peers,
    rules,
)
from penstock.drivers.nftables.host_lock import NOBODY, HostLock
from penstock.drivers.nftables.kernel import tracked
from penstock.drivers.nftables.links import Place
from penstock.drivers.nftables.moves import Moves, moves
from penstock.drivers.nftables.traffic import TrafficReader

log = structlog.get_logger(__name__)
RUN_FOLDER = Path("/run/penstock-networks")
_GRANTS = "grants.json"


def unavailable() -> str | None:
    """Return what this machine lacks to carry networks, None if it can."""
    if os.geteuid() != 0:
        return "networks need root: they are devices, namespaces and rules of the kernel"
    if nft.missing():
        return "libnftables is not installed; Debian's package 'libnftables1' is enough"
    if names.program() is None:
        return "dnsmasq is not installed; Debian's package 'dnsmasq-base' is enough"
    return None


class NftablesNetworkDriver:
    """Networks on one host: this process's own namespace, or the one in the file ``host``.

    With a ``lock`` it acts only while its agent has the host. What it makes says by which agent; what others made is left alone.
    """

    name: ClassVar[str] = "nftables"
    simulated: ClassVar[bool] = False

    def __init__(
        self,
        clock: Clock,
        *,
        host: Path | None = None,
        run_folder: Path = RUN_FOLDER,
        lock: HostLock | None = None,
    ) -> None:
        self._clock = clock
        self._lock = lock
        self._owner = NOBODY if lock is None else lock.owner
        self._host = host
        # Several hosts may live on one machine, each in a namespace; the number tells their things apart.
        self._tag = namespaces.inode(host)
        self._folder = run_folder / str(self._tag)
        self._traffic = TrafficReader(self._folder, host)
        self._peers: dict[int, set[IPv4Address]] = {}  # other hosts by network
        self._changing = threading.RLock()  # networks are made, looked at and taken away one after the other
        self._serving = threading.Lock()  # guards the next two, and the files that are written of them
        self._taps: dict[int, tuple[str, ...]] = {}  # of the ports here, by network
        self._user_data: Mapping[str, bytes] | None = None  # by tap; None: not heard yet
        self._made: dict[int, HostNetwork] = {}  # what this process has made whole
        self._moves = Moves(host, lambda network: links.turn(self._place(network.vni), network))

    def validate(self, config: Config) -> None:
        """Raise InvalidInputError naming the field unless the config is a network on a host."""
        read(config)

    def inventory(self) -> Inventory:
        """Report nothing: hosts are nodes that another driver reports."""
        return Inventory()

    def capabilities(self) -> Capabilities:
        """Carry networks, for real."""
        return Capabilities(
            kinds=frozenset({"network"}),
            simulated=False,
            untested_on_hardware=("VXLAN between machines of different make", "offloads of network cards"),
        )

    def ensure(self, wanted: Wanted) -> Observed:
        """Make the network what is wanted; READY once packets are judged by it.

        Raises HostHeldError while another agent has the host, ConflictError where another one's network has this number.
        """
        network = read(wanted.config)
        self._require()
        with self._changing:
            return self._ensure(wanted, network)

    def _ensure(self, wanted: Wanted, network: HostNetwork) -> Observed:
        known = self._known(network.vni, wanted.allocation_id)
        place = self._place(network.vni)
        self._peers[network.vni] = {one.underlay for one in network.remotes}
        was = self._made.pop(network.vni, None)
        if known is None or known.generation >= wanted.generation or not self._changed(place, was, network):
            self._put(place, network, wanted.allocation_id)
        self._cut(place, network)
        names.put(place.path, network, self._of(network.vni))
        metadata.put(self._folder, self._host, place.path, network)
        with self._serving:
            self._taps[network.vni] = tuple(port.tap for port in network.ports)
            guest_files.put_user_data(self._of(network.vni), self._taps[network.vni], self._user_data)
        now_us = to_epoch_us(self._clock.now())
        ready_us = known.ready_us if known and known.generation else now_us
        mark = _Mark(wanted.allocation_id, wanted.generation, ready_us, _digest(wanted.config), self._owner)
        if mark != known:
            links.write_alias(self._host, network.vni, mark.text())
        self._made[network.vni] = network
        return mark.observed(Phase.READY)

    def observe(self) -> Sequence[Observed]:
        """Report every network of this agent on this host; STARTED says that a part of one is missing."""
        if not links.any_there(self._host) or self.refused() is not None:
            return []  # on most machines there is none, and asking in full is what a quiet agent costs
        found: list[Observed] = []
        with self._changing:
            for vni, mark in self._marks().items():
                if mark.owner == self._owner:
                    whole = mark.generation > 0 and self._is_whole(vni)
                    if not whole:
                        self._made.pop(vni, None)
                    found.append(mark.observed(Phase.READY if whole else Phase.STARTED))
        return found

    def remove(self, allocation_id: str) -> Observed:
        """Take the network off this host; HostHeldError while another agent has it."""
        self._require()
        with self._changing:
            for vni, mark in self._marks().items():
                if mark.allocation_id == allocation_id:
                    self._remove(vni)
            self._tidy()
        return Observed(allocation_id, 0, Phase.ABSENT)

    def checks(self) -> Sequence[Check]:
        """Say who has this host, and ask the other hosts of the networks here whether they are there."""
        found = host_peers.check(self._host, {one for some in list(self._peers.values()) for one in some})
        held = host_lock.check(self._lock, "networks", self.owners())
        return [held] if found is None else [held, found]

    def refused(self) -> str | None:
        """Return who has this host if it is another agent; see ``HoldsHost``."""
        return None if self._lock is None else self._lock.refused()

    def owners(self) -> dict[str, int]:
        """Return how many networks are on this host, by the id of the agent that made them."""
        if not links.any_there(self._host):
            return {}
        return dict(Counter(mark.owner for mark in self._marks().values()))

    def clear(self, owner: str) -> int:
        """Take every network that ``owner`` made off this host, whoever has it; return how many there were."""
        with self._changing:
            found = [vni for vni, mark in self._marks().items() if mark.owner == owner]
            for vni in found:
                self._remove(vni)
            self._tidy()
        return len(found)

    def leaks(self) -> list[str]:
        """Return what is on this host without a network that it belongs to, by name; for checks."""
        known = {str(vni) for vni in links.aliases(self._host)}
        routers = {self._place(int(vni)).router for vni in known}
        ours = [name for name in namespaces.names() if name.startswith(f"penstock-{self._tag}-")]
        found = [f"namespace {name}" for name in ours if name not in routers]
        found += [f"guard of {vni}" for vni in guard.owners(self._host) if vni not in known]
        if self._folder.exists():
            stems = [file.name for file in self._folder.iterdir() if file.is_dir()]
            found += [f"folder {name}" for name in stems if name not in known]
            if not known:
                found.append(f"folder {self._folder}")
        if not known and guard.is_there(self._host):
            found.append("the guard's table")
        return found

    def works_aside(self) -> bool:
        """Let the agent go on: to change a network takes tens of milliseconds, the first one on a host much longer."""
        return True

    def serve_user_data(self, by_tap: Mapping[str, bytes]) -> None:
        """Let the guests behind these devices read this, others nothing; see ``ServesUserData``."""
        with self._serving:
            self._user_data = dict(by_tap)
            if self._taps and self.refused() is None:
                for vni, taps in self._taps.items():
                    guest_files.put_user_data(self._of(vni), taps, self._user_data)

    def traffic(self, *, counts: bool) -> Traffic:
        """Return the flows since those that were told, and what every port counted if ``counts``."""
        if not self._folder.exists() or self.refused() is not None:
            return Traffic()
        ours = {str(vni) for vni, mark in self._marks().items() if mark.owner == self._owner}
        return self._traffic.read(ours, counts=counts)

    def traffic_told(self) -> None:
        """Note that what ``traffic`` returned last was told."""
        self._traffic.told()

    def _require(self) -> None:
        if self._lock is not None:
            self._lock.require()

    def _marks(self) -> dict[int, "_Mark"]:
        """Return what stands on every network here, whoever made it."""
        read_marks = {vni: _Mark.read(text) for vni, text in sorted(links.aliases(self._host).items())}
        return {vni: mark for vni, mark in read_marks.items() if mark is not None}

    def _put(self, place: Place, network: HostNetwork, allocation_id: str) -> None:
        """Bring everything that packets meet to what is wanted, from whatever is there.

        Nothing is let through before the rules say so: first the guard, then lines, then what passes them.
        """
        label = _Mark(allocation_id, 0, to_epoch_us(self._clock.now()), "-", self._owner).text()
        guard.put(self._host, network)
        peers.remember(self._of(network.vni), network)
        peers.join(place.router, network, self._agreed(network.vni))
        with self._moves.telling(network):
            links.put(place, network, label)
        nft.run(place.path, rules.table(network, nft.counters(place.path)))

    def _changed(self, place: Place, was: HostNetwork | None, network: HostNetwork) -> bool:
        """Change what this process made itself, where guests came or went and nothing else; say whether that could be done.

        The same order and end as ``_put``, without asking the kernel for what need not have changed. What somebody else
        changed there meanwhile is for ``observe`` to find, as at any other time.
        """
        if was is None or was == network or not _is_of_guests(was, network):
            return False
        known = {port.tap for port in was.ports}
        try:
            guard.change(self._host, was, network)
            links.put_places(place, network, [port.tap for port in network.ports if port.tap not in known])
            nft.run(place.path, rules.table(network, nft.counters(place.path)))
        except (DriverError, OSError) as error:
            log.info("network_not_as_it_was_made", vni=network.vni, error=str(error))
            return False
        return True

    def _known(self, vni: int, allocation_id: str) -> "_Mark | None":
        """Return what stands on a network's bridge, None without one; ConflictError if another agent made it."""
        known = _Mark.read(links.alias_of(self._host, vni))
        if known is None or known.owner == self._owner or known.allocation_id == allocation_id:
            return known
        raise ConflictError(
            f"network number {vni} of agent {known.owner} is on this host already and is left alone; if that agent is gone "
            f"for good, clear it away there with `penstock agent clear-host --owner {known.owner}`"
        )

    def _tidy(self) -> None:
        """Take away what all networks share once there is none."""
        if not links.aliases(self._host):
            guard.remove(self._host)
            metadata.stop(self._folder)
            rmtree(self._folder, ignore_errors=True)

    def _place(self, vni: int) -> Place:
        return Place(self._host, f"penstock-{self._tag}-{vni}")

    def _of(self, vni: int) -> Path:
        return self._folder / str(vni)

    def _is_whole(self, vni: int) -> bool:
        place = self._place(vni)
        return (
            links.is_whole(place, vni)
            and names.running(self._of(vni)) is not None
            and metadata.running(self._folder) is not None
            and (rules.FAMILY, rules.TABLE) in nft.tables(place.path)
            and guard.is_there(self._host)
            and peers.are_whole(place.path, self._agreed(vni))
        )

    def _agreed(self, vni: int) -> dict[int, str]:
        """Return the routers of the peers of a network that name it, too, by VNI."""
        return {peer: self._place(peer).router for peer in peers.agreed(self._folder, vni)}

    def _remove(self, vni: int) -> None:
        self._made.pop(vni, None)
        self._peers.pop(vni, None)
        with self._serving:
            self._taps.pop(vni, None)
        place = self._place(vni)
        self._moves.drop(vni)
        guard.drop(self._host, vni)
        names.stop(self._of(vni))
        metadata.drop(self._folder, vni)
        rmtree(self._of(vni), ignore_errors=True)
        links.remove(place, vni)

    def _cut(self, place: Place, network: HostNetwork) -> None:
        """End the flows that a rule had let through which is not there any more."""
        file = self._of(network.vni) / _GRANTS
        new = {key: list(value) for key, value in rules.grants(network).items()}
        old: Mapping[str, Sequence[int]] = orjson.loads(file.read_bytes()) if file.exists() else {}
        gone = {(value[0], value[1]) for key, value in old.items() if key not in new}
        if gone:
            namespaces.inside(place.path, lambda: _flush(gone))
        if new != old:
            file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            file.write_bytes(orjson.dumps(new))


def _is_of_guests(was: HostNetwork, network: HostNetwork) -> bool:
    """Tell whether two of a network differ in their guests, and where those of other hosts are, only; none of them moves."""
    same = replace(was, ports=network.ports, remotes=network.remotes, records=network.records)
    return network == same and not moves(was) and not moves(network)


def _flush(marks: set[tuple[int, int]]) -> None:
    with tracked() as table:
        for mark, mask in sorted(marks):
            table.flush(mark=mark, mark_mask=mask)


def _digest(config: Mapping[str, Any]) -> str:
    return sha256(orjson.dumps(config, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


class _Mark:
    """What stands on a network's bridge: whose it is, how old, and which agent made it."""

    def __init__(
        self, allocation_id: str, generation: int, ready_us: int, digest: str, owner: str = NOBODY
    ) -> None:
        self.allocation_id = allocation_id
        self.generation = generation
        self.ready_us = ready_us
        self.digest = digest
        self.owner = owner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Mark) and self.text() == other.text()

    def __hash__(self) -> int:
        return hash(self.text())

    def text(self) -> str:
        return f"penstock {self.allocation_id} {self.generation} {self.ready_us} {self.digest} {self.owner}"

    def observed(self, phase: Phase) -> Observed:
        at_us = {"started": self.ready_us, "ready": self.ready_us}
        return Observed(self.allocation_id, self.generation, phase, at_us=at_us)

    @staticmethod
    def read(text: str | None) -> "_Mark | None":
        words = (text or "").split(" ")
        if len(words) not in (5, 6) or words[0] != "penstock":
            return None  # marks of five words are of before there were owners
        try:
            return _Mark(words[1], int(words[2]), int(words[3]), *words[4:])
        except ValueError as error:
            raise DriverError("what is written on a bridge of ours cannot be read", internal=text) from error
