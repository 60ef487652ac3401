"""The protocol every backend speaks: six level-triggered, repeatable verbs.

``ensure`` and ``remove`` may be called any number of times with the same argument, by a process that
remembers nothing of the calls before. "Already there" and "already gone" are successes. Slow work answers
``Phase.PENDING`` at once and goes on in the background; the agent calls again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Config = Mapping[str, Json]


class Phase(StrEnum):
    """How far a thing on a backend has come."""

    PENDING = "pending"  # accepted, not there yet: ask again
    STARTED = "started"  # it exists (process, VM, job) but does not serve yet
    READY = "ready"  # it serves
    FAILED = "failed"  # it will not come by itself; ``code`` and ``message`` say why
    ABSENT = "absent"  # it is not there, and nothing of it is left


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing that must exist on a node: ``config`` is what ``validate`` accepts for this driver."""

    allocation_id: str
    generation: int
    config: Config


@dataclass(frozen=True, slots=True)
class Observed:
    """What a backend says about one allocation.

    ``at_us`` maps a phase name (``started``, ``ready``) to the epoch microseconds at which it was reached.
    ``endpoint`` is a base URL where there is one. ``busy_permille`` is utilisation 0..1000, None if unknown.
    ``detail`` is what else a driver of this kind has to say, as a small JSON object; None: nothing.
    """

    allocation_id: str
    generation: int
    phase: Phase
    at_us: Mapping[str, int] = field(default_factory=dict[str, int])
    endpoint: str | None = None
    busy_permille: int | None = None
    code: str | None = None
    message: str | None = None
    detail: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One accelerator as its backend reports it; ``device_class`` is a name in classes.toml or 'unknown'.

    ``attach`` (``domain.device.Attach``) is how a machine gets it. A mediated device has its own ``uuid``, its
    ``mdev_type`` and the PCI address of its parent.
    """

    index: int
    device_class: str
    model: str
    vendor: str
    memory_bytes: int
    serial: str | None = None
    uuid: str | None = None
    pci_address: str | None = None
    numa_node: int | None = None
    nvlink_domain: str | None = None
    health: str = "ok"
    attach: str = "vfio"
    mdev_type: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the sensors of one device say: watts drawn now, degrees Celsius; None where it has no such sensor."""

    node: str
    index: int
    watts: int | None = None
    celsius: int | None = None


@dataclass(frozen=True, slots=True)
class FlowSeen:
    """A packet that began a connection or was dropped, with the rule (or word) that said so, seen at a host."""

    network_id: str
    at_us: int
    verdict: str
    rule: str
    port_id: str | None
    protocol: str
    source: str | None
    target: str | None
    source_port: int | None
    target_port: int | None


@dataclass(frozen=True, slots=True)
class PortCount:
    """What went through a port since it was plugged in, as its guest sees it; drops are of devices and of rules."""

    port_id: str
    received_bytes: int
    received_packets: int
    received_drops: int
    sent_bytes: int
    sent_packets: int
    sent_drops: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a host tells of packets; ``lost`` flows were left out because they were too many."""

    flows: Sequence[FlowSeen] = ()
    counts: Sequence[PortCount] = ()
    lost: int = 0


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node as its backend reports it. ``disks`` and ``nics`` are lists of small JSON objects.

    ``notes`` are sentences for a person, for example "no GPU found: the NVIDIA management library is not
    installed".
    """

    name: str
    architecture: str
    cpu_model: str
    cpu_cores: int
    cpu_threads: int
    memory_bytes: int
    numa: Sequence[Mapping[str, Json]] = ()
    disks: Sequence[Mapping[str, Json]] = ()
    nics: Sequence[Mapping[str, Json]] = ()
    devices: Sequence[DeviceFacts] = ()
    rack: str | None = None
    leaf: str | None = None
    spine: str | None = None
    core: str | None = None
    power_feed: str | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a driver found: nodes with their devices; empty for drivers that only run things on a node."""

    nodes: Sequence[NodeFacts] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do, for the support table. ``kinds`` are the service kinds it can carry."""

    kinds: frozenset[str]
    simulated: bool
    untested_on_hardware: Sequence[str] = ()


class Driver(Protocol):
    """The six required verbs."""

    name: ClassVar[str]
    simulated: ClassVar[bool]

    def validate(self, config: Config) -> None:
        """Raise ``InvalidInputError`` naming the field if ``config`` cannot work; touch nothing."""
        ...

    def inventory(self) -> Inventory:
        """Report the nodes and devices this driver manages."""
        ...

    def ensure(self, wanted: Wanted) -> Observed:
        """Bring the thing closer to existing as wanted and say how far it is; never blocks for long."""
        ...

    def observe(self) -> Sequence[Observed]:
        """Report everything of ours that exists on the backend now, known to this process or not."""
        ...

    def remove(self, allocation_id: str) -> Observed:
        """Bring the thing closer to being gone; ``ABSENT`` once nothing is left; gone already is success."""
        ...

    def capabilities(self) -> Capabilities:
        """Say what this driver can carry."""
        ...


@runtime_checkable
class EnsuresMany(Protocol):
    """Option: drives a whole batch in one call, for backends where a call per thing would dominate."""

    def ensure_many(self, wanted: Sequence[Wanted]) -> Sequence[Observed]:
        """Like ``ensure`` for each, in order."""
        ...

    def remove_many(self, allocation_ids: Sequence[str]) -> Sequence[Observed]:
        """Like ``remove`` for each, in order."""
        ...


@runtime_checkable
class InjectsFaults(Protocol):
    """Option of simulated backends: fail and heal nodes, so that operators can rehearse."""

    def fail_node(self, node_name: str) -> None:
        """Make a node silent, as if its power were gone."""
        ...

    def heal_node(self, node_name: str) -> None:
        """Bring a failed node back."""
        ...


@runtime_checkable
class ReportsSilentNodes(Protocol):
    """Option of drivers that reach several nodes: which of them do not answer now."""

    def silent_nodes(self) -> Sequence[str]:
        """Return the names of the nodes that do not answer."""
        ...


@runtime_checkable
class PowersNodes(Protocol):
    """Option of drivers that reach nodes from outside: turn them off and on."""

    def power(self) -> Mapping[str, str]:
        """Return by node name whether it is ``on``, ``off`` or ``waking`` (on, and not to be used yet)."""
        ...

    def set_power(self, node_name: str, *, on: bool) -> None:
        """Turn a node on or off; what is so already is left alone. A node on which anything runs is not asked to be off."""
        ...


@runtime_checkable
class ReadsSensors(Protocol):
    """Option of drivers that see devices: the power and the temperature of each."""

    def sensors(self) -> Sequence[Reading]:
        """Return what the devices measure now; those that do not answer or measure nothing are left out."""
        ...


@runtime_checkable
class ReadsTraffic(Protocol):
    """Option of drivers that carry networks: which flows they saw, and what each port has counted."""

    def traffic(self, *, counts: bool) -> Traffic:
        """Return the flows since those that were told, and what every port counted if ``counts``."""
        ...

    def traffic_told(self) -> None:
        """Note that what ``traffic`` returned last was told."""
        ...


@runtime_checkable
class GivesUserData(Protocol):
    """Option of drivers of machines: what guests are to read of their own, which may be secret."""

    def user_data_of(self, config: Config) -> Mapping[str, bytes]:
        """Return by network device of the host what the guest behind it may read; InvalidInputError names a bad field."""
        ...


@runtime_checkable
class ServesUserData(Protocol):
    """Option of drivers that carry networks: let each guest read what is its own, and no other guest."""

    def serve_user_data(self, by_tap: Mapping[str, bytes]) -> None:
        """Serve this and nothing else from now on, by network device; those of no port here are remembered and wait for it."""
        ...


@runtime_checkable
class ReadsMeters(Protocol):
    """Option of engine drivers: what each replica is busy with, as the engine itself counts it."""

    def meters(self) -> Mapping[str, Mapping[str, int]]:
        """Return by allocation id what was read last: whole numbers by a name that ends in its unit or says a count."""
        ...


@runtime_checkable
class HoldsHost(Protocol):
    """Option of drivers that must have their host to themselves: where another agent has it, they do nothing."""

    def refused(self) -> str | None:
        """Take the host if nobody has it; return None, or a sentence that says who has it. Quick, and asked often."""
        ...


class CheckState(StrEnum):
    """How well a part of a host is."""

    OK = "ok"
    WARNING = "warning"  # it works, and somebody should look
    BAD = "bad"  # work on this host suffers


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of one part of a host, with a sentence."""

    name: str
    state: CheckState
    message: str


@runtime_checkable
class ChecksHost(Protocol):
    """Option: looks whether the parts of this host that the driver needs are well. Takes a second or two at most."""

    def checks(self) -> Sequence[Check]:
        """Return what was found now, by a name that stays."""
        ...


@runtime_checkable
class Announces(Protocol):
    """Option of drivers that work in threads of their own: say at once that something under way has ended."""

    def announce(self, call: Callable[[], None]) -> None:
        """Remember ``call``, which may be called by any thread and returns at once; one is remembered."""
        ...


@runtime_checkable
class WorksAside(Protocol):
    """Option of drivers whose calls take their time, and that guard themselves: the agent goes on beside their work."""

    def works_aside(self) -> bool:
        """Say whether the agent may."""
        ...


@runtime_checkable
class Consoles(Protocol):
    """Option: what machines write to their serial consoles."""

    def console(self, allocation_id: str, after: int, bytes_max: int) -> tuple[int, bytes]:
        """Return up to ``bytes_max`` bytes from offset ``after`` on, and the offset where they begin.

        Offsets count a machine's whole life; a begin after ``after`` says that what was between is lost.
        """
        ...


@dataclass(frozen=True, slots=True)
class Typed:
    """Keys for a machine's console: ``content`` begins at offset ``begin`` of what its session typed in all."""

    session_id: str
    allocation_id: str
    begin: int
    content: bytes


@runtime_checkable
class TakesKeys(Protocol):
    """Option: types into the serial consoles of machines."""

    def type_into(self, allocation_id: str, content: bytes) -> None:
        """Send keys to a machine that runs; PenstockError if they do not arrive. Waits no longer than a second."""
        ...

    def hang_up(self, allocation_id: str) -> None:
        """Let go of a console that nobody types into any more; nothing if it was not held."""
        ...


@runtime_checkable
class Snapshots(Protocol):
    """Option: keeps copies of a disk at one moment; which ones are wanted stands in the config."""

    def snapshots(self, allocation_id: str) -> Mapping[str, int]:
        """Return the snapshots that are there: size in bytes by id."""
        ...


@runtime_checkable
class Migrates(Protocol):
    """Option: machines go to another node while they run; where to stands in the config."""

    def arrivals(self) -> str | None:
        """Return the address that machines of other nodes come to, None where none may."""
        ...
