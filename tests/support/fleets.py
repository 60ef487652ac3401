"""Small fleets, random ones for property tests, and a search that tries everything to check the planner by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from hypothesis import strategies as st

from penstock.base.units import BYTES_PER_GIB
from penstock.domain.claim import HOST_ATTACHES, Ask, DeviceState, Grant, Level, NodeState, fits, shape_fits
from penstock.domain.device import Attach, load_device_classes
from penstock.scheduler import Fleet, Plan, place_many

CLASSES = load_device_classes()


def node(name: str, **changes: object) -> NodeState:
    """Return a ready node with 512 GiB and 64 cores."""
    ready = NodeState(
        node_id=name,
        schedulable=True,
        memory_bytes=512 * BYTES_PER_GIB,
        memory_used_bytes=0,
        cpu_millis=64_000,
        cpu_used_millis=0,
        drivers=frozenset({"simulated"}),
        architecture="x86_64",
    )
    return replace(ready, **changes)


def device(name: str, on: str, device_class: str = "H100", **changes: object) -> DeviceState:
    """Return a free healthy device of a shipped class."""
    kind = CLASSES[device_class]
    free = DeviceState(
        device_id=name,
        node_id=on,
        device_class=device_class,
        slices=kind.slices,
        memory_bytes=kind.memory_bytes,
        slice_memory_bytes=kind.slice_memory_bytes,
        used_mask=0,
        healthy=True,
        nvlink_domain=None,
    )
    return replace(free, **changes)


def racks(
    count: int, *, nodes: int = 18, per_node: int = 4, device_class: str = "GB200", site_id: str = ""
) -> Fleet:
    """Return ``count`` racks of one NVLink domain each: ``r0-n0-d0`` is the first device."""
    fleet = Fleet(CLASSES)
    add_racks(fleet, count, nodes=nodes, per_node=per_node, device_class=device_class, site_id=site_id)
    return fleet


def add_racks(
    fleet: Fleet,
    count: int,
    *,
    nodes: int,
    per_node: int,
    device_class: str,
    site_id: str = "",
    prefix: str = "r",
) -> None:
    """Add racks to a fleet; ``prefix`` starts the names of everything in them."""
    places = list(product(range(count), range(nodes)))
    fleet.upsert_nodes(
        node(f"{prefix}{rack}-n{one}", site_id=site_id, rack_id=f"{prefix}{rack}") for rack, one in places
    )
    fleet.upsert_devices(
        device(
            f"{prefix}{rack}-n{one}-d{position}",
            f"{prefix}{rack}-n{one}",
            device_class,
            nvlink_domain=f"{prefix}{rack}",
        )
        for rack, one in places
        for position in range(per_node)
    )


@dataclass(frozen=True)
class Picture:
    """What a random fleet is made of."""

    nodes: tuple[NodeState, ...]
    devices: tuple[DeviceState, ...]

    def fleet(self) -> Fleet:
        """Return it loaded."""
        fleet = Fleet({})
        fleet.upsert_nodes(self.nodes)
        fleet.upsert_devices(self.devices)
        return fleet


@st.composite
def pictures(draw: st.DrawFn, *, one_domain_nodes: bool = False) -> Picture:
    """Return up to 4 nodes with up to 3 devices each, of everything that can differ."""
    nodes: list[NodeState] = []
    devices: list[DeviceState] = []
    for number in range(draw(st.integers(1, 4))):
        memory = draw(st.integers(0, 8))
        name = f"n{number}"
        domains = st.sampled_from([None, "p", "q"])
        if one_domain_nodes:
            domains = st.just(draw(domains))
        nodes.append(
            NodeState(
                node_id=name,
                schedulable=draw(st.sampled_from([True, True, True, False])),
                memory_bytes=memory,
                memory_used_bytes=draw(st.integers(0, 2)),
                cpu_millis=draw(st.integers(0, 8)),
                cpu_used_millis=draw(st.integers(0, 1)),
                drivers=draw(st.sampled_from([frozenset("a"), frozenset("ab"), frozenset("b")])),
                architecture=draw(st.sampled_from(["x", "x", "y"])),
                site_id=draw(st.sampled_from(["s", "s", "t"])),
                rack_id=draw(st.sampled_from([None, "r", "r", "u"])),
                leaf=draw(st.sampled_from([None, "l", "l", "m"])),
                pod=draw(st.sampled_from([None, "o", "o"])),
            )
        )
        for position in range(draw(st.integers(0, 3))):
            slices = draw(st.sampled_from([1, 4, 7]))
            devices.append(
                DeviceState(
                    device_id=f"{name}d{position}",
                    node_id=name,
                    device_class=draw(st.sampled_from("AAB")),
                    slices=slices,
                    memory_bytes=draw(st.sampled_from([10, 20])),
                    slice_memory_bytes=draw(st.sampled_from([2, 3])),
                    used_mask=draw(st.one_of(st.just(0), st.integers(0, (1 << slices) - 1))),
                    healthy=draw(st.sampled_from([True, True, True, False])),
                    nvlink_domain=draw(domains),
                    attach=draw(st.sampled_from([Attach.VFIO, Attach.VFIO, Attach.VFIO, *Attach])),
                    numa_node=draw(st.sampled_from([None, 0, 0, 1])),
                )
            )
    return Picture(tuple(nodes), tuple(devices))


def asks(*, counts: Sequence[int] = (0, 1, 1, 2, 3, 4)) -> st.SearchStrategy[Ask]:
    """Return asks of every shape that the random fleets can have."""
    return st.builds(
        Ask,
        count=st.sampled_from(counts),
        device_class=st.sampled_from([None, "A", "A", "B"]),
        memory_bytes_min=st.sampled_from([0, 0, 6, 10, 15]),
        slices=st.sampled_from([0, 0, 1, 2, 3]),
        same_nvlink_domain=st.booleans(),
        node_memory_bytes=st.integers(0, 2),
        node_cpu_millis=st.integers(0, 2),
        driver=st.sampled_from(["a", "a", "b"]),
        architecture=st.sampled_from([None, None, "x"]),
        attaches=st.sampled_from([HOST_ATTACHES, frozenset(Attach)]),
        prefer_nodes=st.sampled_from([frozenset[str](), frozenset({"n0"})]),
        avoid_nodes=st.sampled_from([frozenset[str](), frozenset({"n1"})]),
    )


def gangs() -> st.SearchStrategy[Ask]:
    """Return asks for whole devices in a shape."""
    return st.builds(
        Ask,
        count=st.integers(1, 6),
        device_class=st.sampled_from([None, "A"]),
        memory_bytes_min=st.sampled_from([0, 0, 15]),
        same_nvlink_domain=st.sampled_from([False, False, True]),
        domains_max=st.integers(0, 3),
        within=st.sampled_from([None, *Level]),
        node_memory_bytes=st.integers(0, 1),
        driver=st.just("a"),
        avoid_nodes=st.sampled_from([frozenset[str](), frozenset({"n1"})]),
    )


def can_be_placed(fleet: Fleet, picture: Picture, ask: Ask) -> bool:
    """Try every way to grant ``ask``: one class, one site, if asked for one domain; judged by the domain alone."""
    nodes = {one.node_id: fleet.node_state(one.node_id) for one in picture.nodes}
    devices = [fleet.device_state(one.device_id) for one in picture.devices]
    if ask.count == 0:
        share = [Grant(name, None, 0, ask.node_memory_bytes, ask.node_cpu_millis) for name in nodes]
        return any(fits(ask, grant, nodes[grant.node_id], None) is None for grant in share)
    for device_class, site in product("AB", "st"):
        here = [
            one for one in devices if one.device_class == device_class and nodes[one.node_id].site_id == site
        ]
        pools = [here]
        if ask.same_nvlink_domain and ask.count > 1:
            pools = [[one for one in here if one.nvlink_domain == domain] for domain in "pq"]
            pools += [[one] for one in here]  # one device is as close as can be, linked or not
        if any(_search(ask, pool, nodes, ask.count, ()) for pool in pools):
            return True
    return False


def _search(
    ask: Ask,
    devices: list[DeviceState],
    nodes: dict[str, NodeState],
    left: int,
    taken: tuple[DeviceState, ...],
) -> bool:
    if left == 0:
        return shape_fits(ask, [nodes[one.node_id] for one in taken], taken) is None
    if not devices:
        return False
    first, rest = devices[0], devices[1:]
    if _search(ask, rest, nodes, left, taken):
        return True
    whole = (1 << first.slices) - 1
    run = (1 << ask.slices) - 1
    masks = [run << shift for shift in range(first.slices)] if ask.slices else [whole]
    for mask in masks:
        grant = Grant(first.node_id, first.device_id, mask, ask.node_memory_bytes, ask.node_cpu_millis)
        if fits(ask, grant, nodes[first.node_id], first) is None:
            after = nodes | {first.node_id: charged(nodes[first.node_id], grant)}
            used = replace(first, used_mask=first.used_mask | mask)
            if _search(ask, [used, *rest], after, left - 1, (*taken, first)):
                return True
    return False


def charged(state: NodeState, grant: Grant) -> NodeState:
    """Return a node with one more grant on it."""
    return replace(
        state,
        memory_used_bytes=state.memory_used_bytes + grant.node_memory_bytes,
        cpu_used_millis=state.cpu_used_millis + grant.node_cpu_millis,
    )


def planned(fleet: Fleet, ask: Ask) -> Plan:
    """Place and apply; the order must go somewhere."""
    (decision,) = place_many(fleet, [ask])
    assert isinstance(decision, Plan)
    return decision
