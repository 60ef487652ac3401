"""Claims: what a service holds, and the one judge of whether it fits.

``fits`` is called by the planner on what it chose and by the gate on what it is about to commit. There is
no second opinion on feasibility anywhere in the product.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from penstock.domain.device import Attach
from penstock.domain.reservation import Booking, Leaving, Window, blocked_mask, used_later

HOST_ATTACHES = frozenset({Attach.VFIO})  # what a process on the host can open as well


class Level(StrEnum):
    """How close together an order must stay: a level of the tree node < rack < leaf < pod < site."""

    NODE = "node"
    RACK = "rack"
    LEAF = "leaf"
    POD = "pod"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a service needs from placement.

    ``count`` devices (``slices`` == 0: whole ones; else that many slices of one device each), of
    ``device_class`` or of any class with at least ``memory_bytes_min`` per device or slice. With ``count``
    0 the ask is for a node: ``node_memory_bytes`` and ``node_cpu_millis`` on a node that offers ``driver``.
    For asks with devices the node amounts are per device.

    ``classes`` (where no class is named; empty: every class) are those that would do, the best first.

    ``preemptible`` work yields: it is stopped, and queued again, when an order that does not yield needs its place.

    The shape: all in one NVLink domain (``same_nvlink_domain``), or in at most ``domains_max`` of them (0: no
    matter), and all in one node, in one rack, under one leaf switch or in one pod (``within``).

    The time: from now, or from ``starts_at`` on (a booking), and for as long as it runs, or until ``ends_at``. An order
    with a ``reservation_id`` gets its place inside that reservation and nowhere else.

    How it takes devices: ``attaches``. What the host itself opens is a whole function; a machine may be given more.

    Whose it is: ``project_id``. With ``fabric`` its nodes join a partition of the fabric: nobody else may be there.
    """

    count: int
    device_class: str | None = None
    memory_bytes_min: int = 0
    slices: int = 0
    same_nvlink_domain: bool = False
    node_memory_bytes: int = 0
    node_cpu_millis: int = 0
    driver: str = "simulated"
    architecture: str | None = None
    networks: bool = False  # on a node that carries tenants' networks
    attaches: frozenset[Attach] = HOST_ATTACHES
    prefer_nodes: frozenset[str] = frozenset()
    avoid_nodes: frozenset[str] = frozenset()
    avoid_classes: frozenset[str] = frozenset()
    domains_max: int = 0
    within: Level | None = None
    classes: tuple[str, ...] = ()
    preemptible: bool = False
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    reservation_id: str | None = None
    project_id: str = ""
    fabric: bool = False

    @property
    def window(self) -> Window:
        """Return when the order wants its place."""
        return Window(self.starts_at, self.ends_at)

    @property
    def domain_limit(self) -> int:
        """Return in how many NVLink domains the order may be at most, 0 for no limit."""
        return 1 if self.same_nvlink_domain else self.domains_max

    def takes(self, device_class: str) -> bool:
        """Tell whether a device of ``device_class`` would do."""
        if self.device_class is not None:
            named = self.device_class == device_class
        else:
            named = not self.classes or device_class in self.classes
        return named and device_class not in self.avoid_classes


@dataclass(frozen=True, slots=True)
class Grant:
    """One piece of a plan: a mask of slices of one device, or (``device_id`` None) a share of a node."""

    node_id: str
    device_id: str | None
    mask: int
    node_memory_bytes: int
    node_cpu_millis: int


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The part of a device that decides whether it can be granted."""

    device_id: str
    node_id: str
    device_class: str
    slices: int
    memory_bytes: int
    slice_memory_bytes: int
    used_mask: int
    healthy: bool
    nvlink_domain: str | None
    yielding_mask: int = 0  # the slices of used_mask whose holder yields
    bookings: tuple[Booking, ...] = ()  # what is on the calendar for it and not over
    leaving: tuple[Leaving, ...] = ()  # parts of used_mask with a known end; asked for by bookings alone
    attach: Attach = Attach.VFIO
    numa_node: int | None = None  # of its host; a preference of the planner, no matter of what fits
    power_booked: bool = False  # a reservation keeps its load power, whether or not it has begun

    @property
    def draws(self) -> bool:
        """Tell whether its load power is held: something runs on it, or it is booked."""
        return self.used_mask != 0 or self.power_booked


@dataclass(frozen=True, slots=True)
class NodeState:
    """The part of a node that decides whether it can be granted.

    ``site_id``, ``rack_id`` and ``simulated`` do not decide feasibility; the planner keeps an order inside
    one site and says in words where it went. ``leaf`` and ``pod`` are names within the site; None: not known.
    """

    node_id: str
    schedulable: bool
    memory_bytes: int
    memory_used_bytes: int
    cpu_millis: int
    cpu_used_millis: int
    drivers: frozenset[str]
    architecture: str
    site_id: str = ""
    rack_id: str | None = None
    simulated: bool = False
    leaf: str | None = None
    pod: str | None = None
    maintenance_from: datetime | None = None  # when the next maintenance of it begins
    row: str | None = None  # of racks, a name within the site
    asleep: bool = False  # it must be woken before anything starts on it
    wake_mw: int = (
        0  # what waking it adds to the power that is held; 0: it is awake, or its power is kept for it
    )
    networks: bool = False  # it carries tenants' networks
    kept_for: str | None = None  # the project whose partition of the fabric it is in, joins or leaves
    projects: frozenset[str] = (
        frozenset()
    )  # who holds or booked something of it; asked for by ``fabric`` alone

    def area(self, level: Level) -> tuple[str, ...]:
        """Return the rack, leaf or pod of the node as a key; a node that names none is one by itself."""
        if level is Level.NODE:
            return (self.node_id,)
        name = {Level.RACK: self.rack_id, Level.LEAF: self.leaf, Level.POD: self.pod}[level]
        return (self.node_id,) if name is None else (self.site_id, name)


class Refusal(StrEnum):
    """Why a grant does not fit; stable codes, each with a sentence in ``REFUSAL_SENTENCES``."""

    NODE_NOT_SCHEDULABLE = "node_not_schedulable"
    NODE_AVOIDED = "node_avoided"
    NODE_KEPT = "node_kept"
    NODE_SHARED = "node_shared"
    DRIVER_MISSING = "driver_missing"
    ARCHITECTURE = "architecture"
    NO_NETWORKS = "no_networks"
    NODE_MEMORY = "node_memory"
    NODE_CPU = "node_cpu"
    DEVICE_UNHEALTHY = "device_unhealthy"
    DEVICE_CLASS = "device_class"
    DEVICE_ATTACH = "device_attach"
    DEVICE_MEMORY = "device_memory"
    DEVICE_USED = "device_used"
    SLICES = "slices"
    SHAPE = "shape"
    DEVICE_YIELDS = "device_yields"
    DEVICE_BOOKED = "device_booked"
    NOT_RESERVED = "not_reserved"
    NODE_MAINTENANCE = "node_maintenance"
    POWER_BUDGET = "power_budget"


REFUSAL_SENTENCES: dict[Refusal, str] = {
    Refusal.NODE_NOT_SCHEDULABLE: "the node is cordoned, unreachable or not yet ready",
    Refusal.NODE_AVOIDED: "the service just failed on this node, or a partition of the fabric keeps the two apart",
    Refusal.NODE_KEPT: "the node is in the partition of the fabric of another project, or is about to leave it",
    Refusal.NODE_SHARED: "another project holds or booked something of the node, so it cannot join a partition of the fabric",
    Refusal.DRIVER_MISSING: "the node does not run the driver this kind of service needs",
    Refusal.ARCHITECTURE: "the node has another CPU architecture",
    Refusal.NO_NETWORKS: "the node carries no networks, which the order's ports need",
    Refusal.NODE_MEMORY: "the node has too little free memory",
    Refusal.NODE_CPU: "the node has too little free CPU",
    Refusal.DEVICE_UNHEALTHY: "the device is not healthy",
    Refusal.DEVICE_CLASS: "the device is of another class",
    Refusal.DEVICE_ATTACH: "only a virtual machine can be given the device: it is part of another (mediated), or a simulated one",
    Refusal.DEVICE_MEMORY: "the device or slice has too little memory",
    Refusal.DEVICE_USED: "the device is in use",
    Refusal.SLICES: "the device cannot be cut into slices of this size",
    Refusal.SHAPE: "the devices lie further apart than the order allows",
    Refusal.DEVICE_YIELDS: "the device is held by work that yields and must be stopped first",
    Refusal.DEVICE_BOOKED: "the device is booked before the order would end; an order that ends before or yields may have it",
    Refusal.NOT_RESERVED: "the device is not part of the order's reservation, or that has not begun",
    Refusal.NODE_MAINTENANCE: "the node is taken out of work before the order would end",
    Refusal.POWER_BUDGET: "a power budget above it has too little left",
}


def fits(ask: Ask, grant: Grant, node: NodeState, device: DeviceState | None) -> Refusal | None:
    """Say why ``grant`` cannot be given for ``ask``, or None if it can.

    ``node`` and ``device`` are the state just before this grant; ``device`` is None exactly when the grant
    is for a node share.
    """
    refusal = _node_fits(ask, grant, node)
    if refusal is not None or device is None:
        return refusal
    return _device_fits(ask, grant, device)


def _node_fits(ask: Ask, grant: Grant, node: NodeState) -> Refusal | None:
    if not node.schedulable:
        return Refusal.NODE_NOT_SCHEDULABLE
    if _in_maintenance(ask, node):
        return Refusal.NODE_MAINTENANCE
    apart = _kept_apart(ask, node)
    if apart is not None:
        return apart
    if ask.driver not in node.drivers:
        return Refusal.DRIVER_MISSING
    if ask.architecture is not None and ask.architecture != node.architecture:
        return Refusal.ARCHITECTURE
    if ask.networks and not node.networks:
        return Refusal.NO_NETWORKS
    if node.memory_used_bytes + grant.node_memory_bytes > node.memory_bytes:
        return Refusal.NODE_MEMORY
    if node.cpu_used_millis + grant.node_cpu_millis > node.cpu_millis:
        return Refusal.NODE_CPU
    return None


def _kept_apart(ask: Ask, node: NodeState) -> Refusal | None:
    if node.node_id in ask.avoid_nodes:
        return Refusal.NODE_AVOIDED
    if node.kept_for not in (None, ask.project_id):
        return Refusal.NODE_KEPT
    if ask.fabric and not node.projects <= {ask.project_id}:
        return Refusal.NODE_SHARED
    return None


def _in_maintenance(ask: Ask, node: NodeState) -> bool:
    """Tell whether a share of a node would reach into its maintenance; devices have it among their bookings."""
    begins = node.maintenance_from
    if begins is None or ask.count or ask.preemptible:
        return False
    return ask.ends_at is None or ask.ends_at > begins


def _device_fits(ask: Ask, grant: Grant, device: DeviceState) -> Refusal | None:
    if not device.healthy:
        return Refusal.DEVICE_UNHEALTHY
    if not ask.takes(device.device_class):
        return Refusal.DEVICE_CLASS
    if device.attach not in ask.attaches:
        return Refusal.DEVICE_ATTACH
    if ask.slices == 0:
        if device.memory_bytes < ask.memory_bytes_min:
            return Refusal.DEVICE_MEMORY
        if grant.mask != (1 << device.slices) - 1:
            return Refusal.SLICES
    else:
        if device.slices <= 1 or ask.slices > device.slices or grant.mask.bit_count() != ask.slices:
            return Refusal.SLICES
        if device.slice_memory_bytes * ask.slices < ask.memory_bytes_min:
            return Refusal.DEVICE_MEMORY
        if grant.mask >> device.slices:
            return Refusal.SLICES
    return _time_fits(ask, grant, device)


def _time_fits(ask: Ask, grant: Grant, device: DeviceState) -> Refusal | None:
    """Judge the calendar: in use now, in use then, booked by others, or outside the order's own reservation."""
    if ask.starts_at is not None:
        used = used_later(device.used_mask, device.yielding_mask, device.leaving, ask.starts_at)
        if used & grant.mask:
            return Refusal.DEVICE_USED
    elif taken := device.used_mask & grant.mask:
        yields = not ask.preemptible and taken & ~device.yielding_mask == 0
        return Refusal.DEVICE_YIELDS if yields else Refusal.DEVICE_USED
    own = ask.reservation_id
    if own is not None:
        begun = (b.mask for b in device.bookings if b.reservation_id == own and b.begun)
        if grant.mask & ~_union(begun):
            return Refusal.NOT_RESERVED
    if grant.mask & blocked_mask(device.bookings, ask.window, yields=ask.preemptible, own=own):
        return Refusal.DEVICE_BOOKED
    return None


def _union(masks: Iterable[int]) -> int:
    whole = 0
    for mask in masks:
        whole |= mask
    return whole


def shape_fits(ask: Ask, nodes: Sequence[NodeState], devices: Sequence[DeviceState]) -> Refusal | None:
    """Say whether the places of all grants of ``ask`` together have its shape: one site, class, area, few domains.

    ``nodes`` and ``devices`` go together, one pair a grant. Devices without a link are in no domain, so
    more than one of them is never in a few domains.
    """
    if len({node.site_id for node in nodes}) > 1 or len({device.device_class for device in devices}) > 1:
        return Refusal.SHAPE
    if ask.within is not None and len({node.area(ask.within) for node in nodes}) > 1:
        return Refusal.SHAPE
    if ask.domain_limit and len({device.device_id for device in devices}) > 1:
        domains = {device.nvlink_domain for device in devices}
        if None in domains or len(domains) > ask.domain_limit:
            return Refusal.SHAPE
    return None


def lowest_free_run(used_mask: int, slices_total: int, wanted: int) -> int | None:
    """Return the mask of the lowest ``wanted`` adjacent free slices, or None; partitions are contiguous."""
    run = (1 << wanted) - 1
    for shift in range(slices_total - wanted + 1):
        if used_mask & (run << shift) == 0:
            return run << shift
    return None
