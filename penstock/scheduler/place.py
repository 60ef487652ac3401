"""Place one order, or a batch: filters, score, topology, and the verdict of ``domain.claim.fits``.

Complete within its rules: if devices of one class at one site can hold an order in the shape it asks for,
a plan is found. Sources of the policy: begun first and few domains, as argued in docs/reference/placement.md.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from penstock.base.limits import POWER_TRIES_MAX
from penstock.base.units import format_bytes
from penstock.domain.claim import Ask, DeviceState, Grant, NodeState, Refusal, fits, shape_fits
from penstock.domain.power_budget import PowerShortage
from penstock.scheduler import slices
from penstock.scheduler.arrays import I64, UNBOUNDED
from penstock.scheduler.filters import (
    REFUSALS,
    Capacity,
    capacity_of,
    ceiling_of,
    filter_nodes,
    need_of,
    node_capacity_of,
)
from penstock.scheduler.gang import in_shape, most_ever, most_in_shape
from penstock.scheduler.loss import losses_at, scorer_of, waste_permille
from penstock.scheduler.near import devices_of, numa_nodes, numa_reasons
from penstock.scheduler.node_columns import DEVICES, NODE_MEMORY, NODE_MEMORY_USED
from penstock.scheduler.outlook import piece_milli
from penstock.scheduler.plan import Binding, Chosen, Limit, NoPlan, Plan, PlanDefectError, ScoreReason
from penstock.scheduler.pool import BOOKED_FREE, CELL, CELL_NODE, FREE, GROUP, ISLAND, TOTAL, Pool
from penstock.scheduler.power import (
    affordable,
    around,
    least_short,
    shared,
    short_of,
    short_to_wake,
    unwakeable,
    without,
)
from penstock.scheduler.reservation import inside
from penstock.scheduler.score import EXACT_FROM, least, share_losses
from penstock.scheduler.snapshot import Fleet
from penstock.scheduler.topology import Take, in_one_domain, on_one_node, over_nodes, site_units

# Filters in the order in which an order runs out of candidates: hardware first, then what happens to it.
_HARDWARE = (Refusal.DEVICE_CLASS, Refusal.DEVICE_ATTACH, Refusal.SLICES, Refusal.DEVICE_MEMORY)
_HARDWARE_OF_NODE = (Refusal.DRIVER_MISSING, Refusal.ARCHITECTURE, Refusal.NO_NETWORKS)


def place(fleet: Fleet, ask: Ask, *, seed: int = 0) -> Plan | NoPlan:
    """Choose where ``ask`` goes, or say why it cannot go anywhere now; the fleet is left as it was.

    The same fleet, ask and seed give the same answer. Raises ValueError for a count or slices below 0 and
    PlanDefectError if the choice does not pass ``fits`` (a defect).
    """
    if ask.count < 0 or ask.slices < 0:
        raise ValueError("an ask has no negative count or slices")
    if ask.slices and (ask.domains_max or ask.within is not None):
        raise ValueError("a shape over several domains or within an area is for whole devices")
    ask = fleet.closing(ask)
    if ask.reservation_id is not None:
        return _place_inside(fleet, ask, seed)
    if ask.count == 0:
        return _place_node(fleet, ask, seed)
    need = need_of(ask)
    tried: list[Capacity] = []
    unlimited: list[Capacity] = []  # the same as if there were no power budgets
    for pool in fleet.pools_for(ask):
        capacity = capacity_of(fleet, pool, need)
        if ask.avoid_nodes:
            capacity = capacity.narrowed(ask.avoid_nodes, keep=False)
        unlimited.append(capacity)
        capacity = affordable(capacity, ask.count)
        grants = None
        if fleet.budgets.asleep:
            asleep = map(fleet.node_name, sorted(fleet.budgets.asleep))
            grants = _preferred(capacity.narrowed(asleep, keep=False), ask, seed)
        if grants is None:
            grants = _preferred(capacity, ask, seed)
        tried.append(capacity)
        if grants is not None:
            verify(fleet, ask, grants)
            return _plan(fleet, ask, grants, tried, seed)
    return _no_plan(fleet, ask, tried, seed, _short(fleet, ask, unlimited, seed))


def _preferred(capacity: Capacity, ask: Ask, seed: int) -> list[Grant] | None:
    """Choose the grants of one class, on nodes that the order prefers if those hold all of it."""
    grants = None
    if ask.prefer_nodes:
        grants = _within_budgets(capacity.narrowed(ask.prefer_nodes, keep=True), ask, seed)
    return grants if grants is not None else _within_budgets(capacity, ask, seed)


def _within_budgets(capacity: Capacity, ask: Ask, seed: int) -> list[Grant] | None:
    """Choose the grants of one class; where they overdraw a power budget they share, choose again around it."""
    for tried in range(POWER_TRIES_MAX):
        grants = _grants(capacity, ask, seed)
        short = () if grants is None else short_of(capacity.fleet, grants)
        if grants is None or not short:
            return grants
        capacity = around(capacity, grants, short[0]) if tried else shared(capacity)
    return None


def _short(fleet: Fleet, ask: Ask, unlimited: list[Capacity], seed: int) -> tuple[PowerShortage, ...]:
    """Return which power budgets stand in the way of an order that would fit but for them, where it lacks least."""
    if not fleet.budgets.rows:
        return ()
    for capacity in unlimited:
        grants = _grants(capacity, ask, seed)
        if grants is None:
            continue
        short = short_of(fleet, grants)
        if len({grant.node_id for grant in grants}) == 1 and (not ask.slices or ask.count == 1):
            short = least_short(capacity, ask.count) or short
        if short:
            return short
    return ()


def _place_inside(fleet: Fleet, ask: Ask, seed: int) -> Plan | NoPlan:
    """Choose among what the reservation of ``ask`` holds."""
    plan = place(inside(fleet, ask), replace(ask, reservation_id=None, ends_at=None), seed=seed)
    if isinstance(plan, Plan):
        verify(fleet, ask, plan.grants)
    return replace(plan, snapshot=fleet.digest())


def place_many(fleet: Fleet, asks: Iterable[Ask], *, seed: int = 0) -> list[Plan | NoPlan]:
    """Place ``asks`` in order, each on the fleet that the ones before it leave, and leave it so.

    What the gate then refuses is to be given back by ``fleet.revert(plan.grants)``.
    """
    decisions: list[Plan | NoPlan] = []
    for ask in asks:
        decision = place(fleet, ask, seed=seed)
        if isinstance(decision, Plan):
            fleet.apply(decision.grants)
        decisions.append(decision)
    return decisions


def verify(fleet: Fleet, ask: Ask, grants: Sequence[Grant]) -> None:
    """Have ``domain.claim.fits`` judge ``grants`` one after the other; raises PlanDefectError at a refusal."""
    nodes: dict[str, NodeState] = {}
    devices: dict[str, DeviceState] = {}
    places: list[tuple[NodeState, DeviceState]] = []
    repeated = len({grant.device_id for grant in grants}) < len(grants)
    for grant in grants:
        node = nodes.get(grant.node_id) or fleet.node_state(grant.node_id)
        device = None
        if grant.device_id is not None:
            device = devices.get(grant.device_id) or fleet.device_state(grant.device_id)
        refusal = fits(ask, grant, node, device)
        if refusal is not None:
            raise PlanDefectError(f"planned {grant} for {ask} but it is refused: {refusal}")
        if len(grants) == 1:
            return
        if grant.node_memory_bytes or grant.node_cpu_millis or grant.node_id not in nodes:
            nodes[grant.node_id] = replace(
                node,
                memory_used_bytes=node.memory_used_bytes + grant.node_memory_bytes,
                cpu_used_millis=node.cpu_used_millis + grant.node_cpu_millis,
            )
        if device is not None:
            places.append((node, device))
            if repeated:
                devices[device.device_id] = replace(device, used_mask=device.used_mask | grant.mask)
    if shape_fits(ask, [node for node, _ in places], [device for _, device in places]) is not None:
        raise PlanDefectError(f"planned {len(grants)} grants for {ask} but they have not its shape")


def _grants(capacity: Capacity, ask: Ask, seed: int) -> list[Grant] | None:
    """Choose the grants of one class, None if the class does not hold the order."""
    if ask.slices:
        return slices.choose(capacity, ask, seed)
    if ask.count > 1 and (ask.within is not None or ask.domain_limit > 1):
        takes = in_shape(capacity, ask, seed)
    elif ask.count > 1 and ask.domain_limit:
        takes = in_one_domain(capacity, ask.count, seed)
    else:
        takes = on_one_node(capacity, ask.count, seed)
        if takes is None and ask.count > 1:
            takes = over_nodes(capacity, ask.count, seed)
    if takes is None:
        return None
    return [grant for take in takes for grant in _whole_devices(capacity, ask, take)]


def _whole_devices(capacity: Capacity, ask: Ask, take: Take) -> list[Grant]:
    """Return grants for free devices of a cell, near one NUMA node of its host where that has them."""
    fleet, pool = capacity.fleet, capacity.pool
    node_id = fleet.node_name(int(pool.cells.data[CELL_NODE, take.cell]))
    if pool.near or capacity.by_device or pool.repainted or pool.cells.data[BOOKED_FREE, take.cell]:
        chosen = devices_of(capacity, take.cell, take.devices, take.numa)
    else:
        chosen = pool.free_devices(take.cell, take.devices)
    return [
        Grant(
            node_id=node_id,
            device_id=pool.device_ids[row],
            mask=pool.whole_mask(row),
            node_memory_bytes=ask.node_memory_bytes,
            node_cpu_millis=ask.node_cpu_millis,
        )
        for row in chosen
    ]


def _plan(fleet: Fleet, ask: Ask, grants: list[Grant], tried: list[Capacity], seed: int) -> Plan:
    pool = tried[-1].pool
    per_cell: dict[int, list[int]] = {}
    for grant in grants:
        row = fleet.row_of(grant.device_id or "")
        per_cell.setdefault(int(pool.devices.data[CELL, row]), []).append(row)
    chosen = tuple(_chosen(fleet, pool, cell, held) for cell, held in per_cell.items())
    return Plan(
        grants=tuple(grants),
        device_class=pool.device_class,
        score_reasons=_reasons(fleet, ask, tried, chosen, grants[0]),
        candidates_considered=fleet.device_count,
        rejected=_rejected(fleet, ask, tried),
        chosen=chosen,
        snapshot=fleet.digest(),
        seed=seed,
    )


def _chosen(fleet: Fleet, pool: Pool, cell: int, rows: list[int]) -> Chosen:
    cells, islands = pool.cells.data, pool.islands.data
    domain = pool.island_name(cell)
    why = f"{cells[FREE, cell]} of {cells[TOTAL, cell]} devices were wholly free here"
    if domain is not None:
        island = cells[ISLAND, cell]
        why += f", {islands[FREE, island]} of {islands[TOTAL, island]} in its NVLink domain"
    numa = numa_nodes(pool, rows) if pool.near else ()
    return Chosen(fleet.node_name(int(cells[CELL_NODE, cell])), domain, len(rows), why, numa)


def _reasons(
    fleet: Fleet, ask: Ask, tried: list[Capacity], chosen: tuple[Chosen, ...], first: Grant
) -> tuple[ScoreReason, ...]:
    """Say which rules decided, the strongest first."""
    pool = tried[-1].pool
    reasons: list[ScoreReason] = []
    if ask.device_class is None:
        if ask.classes:
            sentence = f"{pool.device_class} is the cheapest class that meets its needs and has room"
            reasons.append(ScoreReason("cheapest_class", sentence, len(tried)))
        else:
            at_least = format_bytes(ask.memory_bytes_min)
            sentence = f"{pool.device_class} is the smallest class with at least {at_least} that has room"
            reasons.append(ScoreReason("smallest_class", sentence, len(tried)))
    if ask.count > 1:
        reasons += _shape_reasons(ask, chosen)
    reasons += numa_reasons(chosen, ask.count)
    if ask.slices:
        held = fleet.device_state(first.device_id or "").used_mask.bit_count()
        sentence = (
            f"a device that is cut already comes first; this one had {held} slices in use"
            if held
            else "no device that is cut already has room, so a fresh one is cut"
        )
        reasons.append(ScoreReason("cut_first", sentence, held))
    if len(chosen) == 1 and (ask.count == 1 or not ask.slices):
        reasons.append(_loss_reason(fleet, ask, pool, first))
    layout = pool.layout()
    outer = layout.outer_of_cell[fleet.cell_of(first.device_id or "")]
    free, total = int(layout.outer_free[outer]), int(layout.outer_total[outer])
    kind = "NVLink domain" if layout.outer_by_island[outer] else "node"
    if free == ask.count >= EXACT_FROM and not ask.slices:
        sentence = f"it fills its {kind}, which had {free} devices wholly free, exactly"
    elif free < total:
        sentence = (
            f"its {kind} was begun already, with {free} of {total} devices wholly free; whole ones stay whole"
        )
    else:
        sentence = f"no {kind} that is begun has room, so a whole one of {total} devices is opened"
    reasons.append(ScoreReason("begun_first", sentence, free))
    nodes = {place.node for place in chosen}
    return (*_preference(ask, nodes), *reasons, *_wakes(fleet, nodes))


def _preference(ask: Ask, nodes: set[str]) -> tuple[ScoreReason, ...]:
    """Say whether an order that prefers nodes got them, before every other reason."""
    if not ask.prefer_nodes:
        return ()
    held = len(nodes & ask.prefer_nodes)
    if not held:
        sentence = "no node that holds the weights has room, so they are fetched"
        return (ScoreReason("weights_fetched", sentence, len(ask.prefer_nodes)),)
    where = "this node holds" if len(nodes) == 1 else f"{held} of its {len(nodes)} nodes hold"
    return (ScoreReason("preferred_node", f"{where} the weights already", held),)


def _wakes(fleet: Fleet, nodes: Iterable[str]) -> list[ScoreReason]:
    """Say that nodes are woken, because none that is awake would do."""
    count = sum(fleet.node_state(one).asleep for one in nodes) if fleet.budgets.asleep else 0
    what = "the node sleeps and is" if count == 1 else f"{count} nodes sleep and are"
    sentence = f"{what} woken first: nothing that is awake would do"
    return [ScoreReason("sleeps", sentence, count)] if count else []


def _loss_reason(fleet: Fleet, ask: Ask, pool: Pool, first: Grant) -> ScoreReason:
    """Say what the chosen node can no longer attain, by the costs that chose it."""
    group = pool.cells.data[GROUP, fleet.cell_of(first.device_id or "")]
    devices = 1 if ask.slices else ask.count
    scorer = scorer_of(fleet, pool, ask.node_cpu_millis * devices, devices, ask.slices)
    cost = losses_at(fleet, pool, np.array([group]), scorer)
    total = pool.layout().slices_max
    wasted = max(0, waste_permille(int(cost[0]), devices, piece_milli(ask.slices or total, total)))
    sentence = (
        f"of the nodes to choose from none loses less: {wasted / 1000:.2f} of a device beyond what it takes"
    )
    return ScoreReason("least_loss", sentence, wasted)


def _shape_reasons(ask: Ask, chosen: tuple[Chosen, ...]) -> list[ScoreReason]:
    """Say what decided over how many nodes and domains an order went."""
    reasons: list[ScoreReason] = []
    nodes = len({place.node for place in chosen})
    domains = len({place.nvlink_domain for place in chosen})
    sentence = (
        "all on one node" if nodes == 1 else f"over {nodes} nodes, the fewest that its shape and site allow"
    )
    reasons.append(ScoreReason("few_nodes", sentence, nodes))
    if ask.domain_limit == 1:
        sentence = "the tightest NVLink domain that holds all of it, so that larger ones stay whole"
        reasons.append(ScoreReason("tightest_domain", sentence, domains))
    elif ask.domain_limit:
        sentence = (
            f"in {domains} NVLink domains, the fewest that hold it, and of those the ones with least free"
        )
        reasons.append(ScoreReason("fewest_domains", sentence, domains))
    if ask.within is not None:
        sentence = f"all in one {ask.within.value}, the one with the fewest free that holds it"
        reasons.append(ScoreReason("tightest_area", sentence, 1))
    return reasons


def _rejected(fleet: Fleet, ask: Ask, tried: list[Capacity]) -> dict[Refusal, int]:
    """Count the devices each filter turned away, over all classes."""
    total: dict[Refusal, int] = {}
    for capacity in tried:
        for refusal, count in capacity.refusals().items():
            total[refusal] = total.get(refusal, 0) + count
    seen = {capacity.pool.device_class for capacity in tried}
    for pool in fleet.pools.values():
        if pool.device_class in seen or not pool.total:
            continue
        if not ask.takes(pool.device_class):
            refusal = Refusal.DEVICE_CLASS
        elif not ask.slices and pool.layout().memory_max < ask.memory_bytes_min:
            refusal = Refusal.DEVICE_MEMORY
        else:
            continue  # large enough, but a smaller class did: not turned away
        total[refusal] = total.get(refusal, 0) + pool.total
    return total


def _no_plan(
    fleet: Fleet, ask: Ask, tried: list[Capacity], seed: int, short: tuple[PowerShortage, ...]
) -> NoPlan:
    need = need_of(ask)
    ceilings = [ceiling_of(fleet, capacity.pool, need) for capacity in tried]
    at_one_site = max((ceiling.one_site for ceiling in ceilings), default=0)
    ever = at_one_site
    if ask.within is not None or ask.domain_limit > 1:
        pairs = zip(tried, ceilings, strict=True)
        ever = max((most_ever(fleet, one.pool, ask, ceiling) for one, ceiling in pairs), default=0)
    elif ask.domain_limit and ask.count > 1:
        ever = max((ceiling.one_domain for ceiling in ceilings), default=0)
    never_fits = ask.count > ever
    rejected = _rejected(fleet, ask, tried)
    free = sum(capacity.units() for capacity in tried)
    if never_fits and ask.count > at_one_site > 0:
        binding = Limit.TOO_LARGE
    elif never_fits and at_one_site:
        anywhere = replace(ask, same_nvlink_domain=False, domains_max=0)
        pairs = zip(tried, ceilings, strict=True)
        in_area = max(most_ever(fleet, one.pool, anywhere, ceiling) for one, ceiling in pairs)
        binding = Limit.AREA if in_area < ask.count else Limit.NVLINK_DOMAIN
    else:
        binding = Refusal.POWER_BUDGET if short else _binding(ask, tried, rejected)
    return NoPlan(
        binding=binding,
        candidates_considered=fleet.device_count,
        rejected=rejected,
        never_fits=never_fits,
        free_matching=free,
        snapshot=fleet.digest(),
        seed=seed,
        short=short,
    )


def _binding(ask: Ask, tried: list[Capacity], rejected: dict[Refusal, int]) -> Binding:
    """Name what stands in the way of an order that fits the hardware: the shape if enough is free, else the filter that turned most away."""
    if any(int(site_units(capacity).max()) >= ask.count for capacity in tried):
        anywhere = replace(ask, same_nvlink_domain=False, domains_max=0)
        if ask.within is None or any(most_in_shape(one, anywhere) >= ask.count for one in tried):
            return Limit.NVLINK_DOMAIN
        return Limit.AREA
    if any(capacity.units() >= ask.count for capacity in tried):
        return Limit.ONE_SITE
    if sum(capacity.units() for capacity in tried) >= ask.count:
        return Limit.ONE_CLASS
    return _strongest(rejected, _HARDWARE)


def _strongest(rejected: dict[Refusal, int], hardware: tuple[Refusal, ...]) -> Binding:
    """Return the filter that turned most away among those that matched in hardware, else among all."""
    passing = {refusal: count for refusal, count in rejected.items() if refusal not in hardware}
    ranked = passing or rejected
    if not ranked:
        return Limit.NOTHING_KNOWN
    return max(ranked, key=lambda refusal: (ranked[refusal], -REFUSALS.index(refusal)))


def _place_node(fleet: Fleet, ask: Ask, seed: int) -> Plan | NoPlan:
    """Choose a node for an ask without devices."""
    capacity = node_capacity_of(fleet, need_of(ask))
    keys = capacity.key
    avoided = [row for row in map(fleet.node_row, ask.avoid_nodes) if row is not None]
    if avoided:
        keys = keys.copy()
        keys[avoided] = UNBOUNDED
    asleep, short = sorted(fleet.budgets.asleep), ()
    row = _choose_node(fleet, ask, without(keys, asleep), seed)
    if row is None and asleep:
        dark = unwakeable(fleet, asleep)
        row = _choose_node(fleet, ask, without(keys, dark), seed)
        short = short_to_wake(fleet, [one for one in dark if keys[one] < UNBOUNDED])
    rejected = capacity.refusals(avoided)
    if row is None:
        every = np.arange(fleet.nodes.size, dtype=np.int64)
        _, possible = filter_nodes(fleet, capacity.need, every, empty=True)
        return NoPlan(
            binding=Refusal.POWER_BUDGET if short else _strongest(rejected, _HARDWARE_OF_NODE),
            candidates_considered=fleet.node_count,
            rejected=rejected,
            never_fits=not possible.any(),
            free_matching=0,
            snapshot=fleet.digest(),
            seed=seed,
            short=short,
        )
    grant = Grant(fleet.node_name(row), None, 0, ask.node_memory_bytes, ask.node_cpu_millis)
    verify(fleet, ask, [grant])
    free = int(fleet.nodes.data[NODE_MEMORY, row] - fleet.nodes.data[NODE_MEMORY_USED, row])
    return Plan(
        grants=(grant,),
        device_class=None,
        score_reasons=(*_preference(ask, {grant.node_id}), *_node_reasons(fleet, row, free)),
        candidates_considered=fleet.node_count,
        rejected=rejected,
        chosen=(Chosen(grant.node_id, None, 0, f"{format_bytes(free)} of memory were free here"),),
        snapshot=fleet.digest(),
        seed=seed,
    )


def _choose_node(fleet: Fleet, ask: Ask, keys: I64, seed: int) -> int | None:
    """Return the node with the least of ``keys``, preferred ones first; None if every key is ``UNBOUNDED``."""
    preferred = [row for row in map(fleet.node_row, sorted(ask.prefer_nodes)) if row is not None]
    if preferred:
        best = least(keys[preferred], seed)
        if best is not None:
            return preferred[best]
    if not (keys < UNBOUNDED).any():
        return None
    lost = np.where(keys < UNBOUNDED, share_losses(fleet, ask.node_cpu_millis), UNBOUNDED)
    return least(np.where(lost == lost.min(), keys, UNBOUNDED), seed)


def _node_reasons(fleet: Fleet, row: int, free: int) -> tuple[ScoreReason, ...]:
    reasons: list[ScoreReason] = []
    devices = int(fleet.nodes.data[DEVICES, row])
    if not devices:
        reasons.append(ScoreReason("spares_devices", "a node without accelerators, which keeps them free", 0))
    sentence = f"best fit: {format_bytes(free)} of memory free, the least that is enough"
    reasons.append(ScoreReason("best_fit", sentence, free))
    return (*reasons, *_wakes(fleet, [fleet.node_name(row)]))
