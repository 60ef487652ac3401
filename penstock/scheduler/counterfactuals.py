"""Counterfactuals: orders close to the one that waits which would succeed now, each one tried with ``place``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

import numpy as np

from penstock.base.limits import COUNTERFACTUALS_MAX, DOMAINS_PER_SERVICE_MAX
from penstock.base.units import BYTES_PER_GIB, format_bytes
from penstock.domain.claim import Ask, Level
from penstock.domain.power_budget import MW_PER_WATT
from penstock.scheduler.filters import filter_nodes, need_of
from penstock.scheduler.node_columns import CPU, CPU_USED, NODE_MEMORY, NODE_MEMORY_USED
from penstock.scheduler.place import place
from penstock.scheduler.plan import NoPlan, Plan
from penstock.scheduler.snapshot import Fleet


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """A changed order that has room now, or the same one later.

    ``changes`` are fields of the order form and their new values. Where ``orderable`` is false no field of
    the form would help; then they are the amounts per node share that would fit, for choosing a smaller
    model. ``ask`` is what was tried, ``replicas`` times. ``start_at``: not now, but then.
    """

    sentence: str
    changes: dict[str, object]
    ask: Ask
    replicas: int = 1
    orderable: bool = True
    start_at: datetime | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        shown: dict[str, object] = {
            "sentence": self.sentence,
            "changes": dict(self.changes),
            "orderable": self.orderable,
        }
        if self.start_at is not None:
            shown["start_at"] = self.start_at
        return shown


def counterfactuals(fleet: Fleet, ask: Ask, *, seed: int = 0, replicas: int = 1) -> list[Counterfactual]:
    """Return at most COUNTERFACTUALS_MAX changed orders that succeed on ``fleet`` as it is.

    At least one where anything is free that the order's driver, architecture and node amounts allow.
    ``replicas`` is how often the order needs ``ask`` (node shares only).
    """
    if ask.count == 0:
        return _node_shares(fleet, ask, seed, replicas)
    if _fits(fleet, ask, seed):
        return [Counterfactual("exactly as ordered: room has come free since", {}, ask)]
    found: list[Counterfactual] = []
    for one in _orders(fleet, ask, seed):
        if all(one.changes != other.changes for other in found):
            found.append(one)
    return found[:COUNTERFACTUALS_MAX] or list(islice(_anything(fleet, ask, seed), 1))


def more_power(fleet: Fleet, ask: Ask, decision: NoPlan, replicas: int) -> list[Counterfactual]:
    """Return what more of the power budgets that are short an order would need now; tried with them raised."""
    if not decision.short:
        return []
    lacking = {one.budget_id: one.lacking_watts * MW_PER_WATT for one in decision.short}
    with fleet.budgets.raised(lacking):
        if not _fits(fleet, ask, decision.seed):
            return []
    words = " and ".join(
        f"{one.lacking_watts:,} W more at {one.level.value} {one.name}" for one in decision.short
    )
    changes: dict[str, object] = {"power_budgets": [one.to_json() for one in decision.short]}
    return [Counterfactual(f"now with {words}", changes, ask, replicas, orderable=False)]


def _fits(fleet: Fleet, ask: Ask, seed: int) -> bool:
    return isinstance(place(fleet, ask, seed=seed), Plan)


def _largest(low: int, high: int, succeeds: Callable[[int], bool]) -> int | None:
    """Return the largest number in [low, high] that succeeds, if every smaller one does too; else None."""
    best = None
    while low <= high:
        middle = (low + high) // 2
        if succeeds(middle):
            best, low = middle, middle + 1
        else:
            high = middle - 1
    return best


def _orders(fleet: Fleet, ask: Ask, seed: int) -> Iterator[Counterfactual]:
    """Yield what succeeds with one field changed, the smallest sacrifice first."""
    what = _units(ask)
    if ask.count > 1:
        yield from _other_shape(fleet, ask, seed)
    yield from _other_class(fleet, ask, seed)
    fewer = _largest(1, ask.count - 1, lambda count: _fits(fleet, replace(ask, count=count), seed))
    if fewer is not None:
        yield Counterfactual(
            f"now with {fewer} instead of {ask.count} {what}", {"count": fewer}, replace(ask, count=fewer)
        )
    yield from _smaller_cut(fleet, ask, seed)
    yield from _less_memory(fleet, ask, seed)


def _other_shape(fleet: Fleet, ask: Ask, seed: int) -> Iterator[Counterfactual]:
    """Yield the fewest domains that hold it now, else any number of them; and the next larger area."""
    what = f"{ask.count} {_units(ask)}"
    if ask.domain_limit:
        apart = replace(ask, same_nvlink_domain=False, domains_max=0)
        free = _fits(fleet, apart, seed)
        most = 0 if ask.slices or not free else DOMAINS_PER_SERVICE_MAX
        more = range(ask.domain_limit + 1, most + 1)
        tried = (replace(apart, domains_max=limit) for limit in more)
        fewest = next((one for one in tried if _fits(fleet, one, seed)), None)
        if fewest is not None:
            sentence = f"now with {what} in {fewest.domains_max} NVLink domains instead of {ask.domain_limit}"
            yield Counterfactual(sentence, _changes(ask, fewest), fewest)
        elif free:
            share = "share one NVLink domain" if ask.domain_limit == 1 else "be in few NVLink domains"
            yield Counterfactual(f"now with {what} that need not {share}", _changes(ask, apart), apart)
    if ask.within is not None:
        levels = list(Level)
        for wider in [*levels[levels.index(ask.within) + 1 :], None]:
            changed = replace(ask, within=wider)
            if _fits(fleet, changed, seed):
                place = (
                    f"in one {wider.value} instead of one {ask.within.value}"
                    if wider
                    else "anywhere at a site"
                )
                yield Counterfactual(f"now with {what} {place}", {"within": wider}, changed)
                return


def _other_class(fleet: Fleet, ask: Ask, seed: int) -> Iterator[Counterfactual]:
    """Yield the smallest class with at least the memory of the one asked for, else the largest below it."""
    if ask.device_class is None:
        return
    own = _class_memory(fleet, ask.device_class)
    would_do = [name for name in fleet.pools if not ask.classes or name in ask.classes]
    others = [(_class_memory(fleet, name), name) for name in would_do if name != ask.device_class]
    others = sorted(other for other in others if other[0])
    upward = [other for other in others if other[0] >= own]
    for memory, name in upward + [other for other in reversed(others) if other[0] < own]:
        changed = replace(ask, device_class=name)
        if _fits(fleet, changed, seed):
            sentence = f"now as {name}, which has {format_bytes(memory)} per device"
            sentence += f" where {ask.device_class} has {format_bytes(own)}" if own else ""
            yield Counterfactual(sentence, {"device_class": name}, changed)
            return


def _smaller_cut(fleet: Fleet, ask: Ask, seed: int) -> Iterator[Counterfactual]:
    """Yield the largest slice that succeeds in place of a whole device or of a larger slice."""
    if ask.domains_max or ask.within is not None:
        return  # shapes are for whole devices
    pools = fleet.pools_for(replace(ask, slices=1))
    largest = max((pool.layout().slices_max for pool in pools), default=0)
    high = min(largest, ask.slices) - 1 if ask.slices else largest - 1
    # Not a search by halves: memory bounds the cut from below, and classes are cut differently.
    cuts = (cut for cut in range(high, 0, -1) if _fits(fleet, replace(ask, slices=cut), seed))
    cut = next(cuts, None)
    if cut is not None:
        was = f"slices of {ask.slices}" if ask.slices else "whole devices"
        sentence = f"now with {ask.count} x {cut} adjacent slices instead of {was}"
        yield Counterfactual(sentence, {"slices": cut}, replace(ask, slices=cut))


def _less_memory(fleet: Fleet, ask: Ask, seed: int) -> Iterator[Counterfactual]:
    """Yield the highest lower bound on memory that succeeds, in whole GiB."""
    if not ask.memory_bytes_min:
        return
    high = (ask.memory_bytes_min - 1) // BYTES_PER_GIB
    gib = _largest(
        0, high, lambda gib: _fits(fleet, replace(ask, memory_bytes_min=gib * BYTES_PER_GIB), seed)
    )
    if gib is not None:
        changed = replace(ask, memory_bytes_min=gib * BYTES_PER_GIB)
        yield Counterfactual(
            f"now with at least {gib} GiB instead of {format_bytes(ask.memory_bytes_min)}",
            {"memory_gib_min": gib},
            changed,
        )


def _anything(fleet: Fleet, ask: Ask, seed: int) -> Iterator[Counterfactual]:
    """Yield the most that is left when several fields give way at once: as few of them as possible."""
    loose = replace(ask, same_nvlink_domain=False, domains_max=0, within=None)
    any_memory = replace(loose, memory_bytes_min=0)
    any_class = replace(any_memory, device_class=None)
    for base in (loose, any_memory, any_class):
        for slices in dict.fromkeys((base.slices, 1, 0)):
            tried = replace(base, slices=slices)

            def succeeds(count: int, tried: Ask = tried) -> bool:
                return _fits(fleet, replace(tried, count=count), seed)

            count = _largest(1, ask.count, succeeds)
            if count is not None:
                changed = replace(tried, count=count)
                changes = _changes(ask, changed)
                memory = "" if changed.memory_bytes_min == ask.memory_bytes_min else ", whatever the memory"
                of = changed.device_class or "any class"
                yield Counterfactual(f"now with {count} {_units(changed)} of {of}{memory}", changes, changed)


def _changes(ask: Ask, changed: Ask) -> dict[str, object]:
    """Return the fields of the order form in which two asks differ."""
    new: dict[str, object] = {
        "count": changed.count,
        "device_class": changed.device_class,
        "memory_gib_min": changed.memory_bytes_min // BYTES_PER_GIB,
        "slices": changed.slices,
        "same_nvlink_domain": changed.same_nvlink_domain,
        "domains_max": changed.domains_max,
        "within": changed.within,
    }
    asked = {name: "memory_bytes_min" if name == "memory_gib_min" else name for name in new}
    differs = {name for name, field in asked.items() if getattr(ask, field) != getattr(changed, field)}
    return {name: value for name, value in new.items() if name in differs}


def _units(ask: Ask) -> str:
    if ask.slices:
        return f"x {ask.slices} slices"
    return "device" if ask.count == 1 else "devices"


def _class_memory(fleet: Fleet, name: str) -> int:
    pool = fleet.pools.get(name)
    if pool is not None and pool.total:
        return pool.layout().memory_max
    known = fleet.classes.get(name)
    return known.memory_bytes if known is not None else 0


def _node_shares(fleet: Fleet, ask: Ask, seed: int, replicas: int) -> list[Counterfactual]:
    """Return fewer replicas, else the size of a replica that would fit."""
    held = _replicas_that_fit(fleet, ask, seed, replicas)
    if held == replicas:
        return [Counterfactual("exactly as ordered: room has come free since", {}, ask, replicas)]
    if held:
        sentence = f"now with {held} instead of {replicas} replicas"
        return [Counterfactual(sentence, {"replicas": held}, ask, held)]
    return _smaller_share(fleet, ask, seed)


def _replicas_that_fit(fleet: Fleet, ask: Ask, seed: int, most: int) -> int:
    """Place ``ask`` up to ``most`` times one after the other, count, and put the fleet back."""
    version, plans = fleet.version, list[Plan]()
    while len(plans) < most:
        decision = place(fleet, ask, seed=seed)
        if not isinstance(decision, Plan):
            break
        fleet.apply(decision.grants)
        plans.append(decision)
    for plan in reversed(plans):
        fleet.revert(plan.grants)
    fleet.version = version
    return len(plans)


def _smaller_share(fleet: Fleet, ask: Ask, seed: int) -> list[Counterfactual]:
    """Return the largest share that one of the nodes with the right driver has free."""
    rows = np.arange(fleet.nodes.size, dtype=np.int64)
    code, _ = filter_nodes(fleet, replace(need_of(ask), node_memory_bytes=0, node_cpu_millis=0), rows)
    data = fleet.nodes.data[:, : fleet.nodes.size]
    memory = np.minimum(data[NODE_MEMORY] - data[NODE_MEMORY_USED], ask.node_memory_bytes)
    cpu = np.minimum(data[CPU] - data[CPU_USED], ask.node_cpu_millis)
    usable = (code == 0) & ((memory > 0) | (cpu > 0))
    usable[[row for row in map(fleet.node_row, fleet.closed_to(ask)) if row is not None]] = False
    for row in np.flatnonzero(usable)[np.argsort(-memory[usable], kind="stable")][:1].tolist():
        smaller = replace(ask, node_memory_bytes=int(memory[row]), node_cpu_millis=int(cpu[row]))
        if _fits(fleet, smaller, seed):
            size, cores = format_bytes(smaller.node_memory_bytes), smaller.node_cpu_millis / 1000
            return [
                Counterfactual(
                    f"now with a model that needs at most {size} and {cores:g} CPU cores a replica",
                    {
                        "node_memory_bytes": smaller.node_memory_bytes,
                        "node_cpu_millis": smaller.node_cpu_millis,
                    },
                    smaller,
                    orderable=False,
                )
            ]
    return []
