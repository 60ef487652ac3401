"""Preemption: which work that yields must stop so that an order gets the shape it asks for, and no more than that.

Victims are chosen by giving back, not by taking away: everything that yields is lifted off the picture, then put
back piece by piece, what has run longest first, wherever the order still finds its shape. What cannot be put
back is in its way. So no victim is stopped in vain, and scattered devices that make no shape are left alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from penstock.base.limits import YIELDING_CONSIDERED_MAX
from penstock.domain.claim import Ask, Grant, Refusal, fits
from penstock.scheduler.place import place
from penstock.scheduler.plan import Plan, PlanDefectError
from penstock.scheduler.snapshot import Fleet


@dataclass(frozen=True, slots=True)
class Yielding:
    """Work that may have to go: its grants, and whether it has been told to stop already, which costs nothing more.

    ``preemptible``: it was ordered as work that yields; else it runs on borrowed devices that are claimed back.
    """

    service_id: str
    grants: tuple[Grant, ...]
    stopping: bool = False
    preemptible: bool = True


@dataclass(frozen=True, slots=True)
class Preemption:
    """Who must stop for an order; empty where it is enough to wait for those that are stopping already."""

    victims: tuple[str, ...]
    plan: Plan


def make_room(fleet: Fleet, ask: Ask, yielding: Sequence[Yielding], *, seed: int = 0) -> Preemption | None:
    """Return whom to stop so that ``ask`` fits, None if that would not help; the fleet is left as it was.

    ``yielding`` is ordered by how much there is to lose: the first are kept if possible. At most
    YIELDING_CONSIDERED_MAX are looked at, those with least to lose. An ask that yields itself stops nobody.
    """
    if ask.preemptible:
        return None
    considered = [one for one in yielding[-YIELDING_CONSIDERED_MAX:] if _on(fleet, one)]
    version, lifted = fleet.version, list[Yielding]()
    try:
        for one in considered:
            fleet.revert(one.grants)
            lifted.append(one)
        plan = place(fleet, ask, seed=seed)
        if not isinstance(plan, Plan):
            return None
        for one in considered:
            if one.stopping:
                continue
            fleet.apply(one.grants)
            lifted.remove(one)
            apart = not fleet.budgets.rows and _apart(plan, one)  # a power budget may be above both
            tried = plan if apart else place(fleet, ask, seed=seed)
            if isinstance(tried, Plan):
                plan = tried
            else:
                fleet.revert(one.grants)
                lifted.append(one)
        victims = tuple(one.service_id for one in lifted if not one.stopping)
    finally:
        for one in lifted:
            fleet.apply(one.grants, yields=one.preemptible)
        for one in considered:
            if one.preemptible:
                fleet.mark_yielding(one.grants)
        fleet.version = version
    borrowed = {grant.device_id for one in considered if not one.preemptible for grant in one.grants}
    _verify(fleet, ask, plan, borrowed)
    return Preemption(victims, plan)


def _on(fleet: Fleet, one: Yielding) -> bool:
    """Tell whether the picture has all grants of ``one`` as held; it may be a moment older or newer than they are."""
    return all(fleet.holds(grant) for grant in one.grants)


def _apart(plan: Plan, one: Yielding) -> bool:
    """Tell whether ``one`` may come back without touching ``plan``: other nodes altogether."""
    return not {grant.node_id for grant in plan.grants} & {grant.node_id for grant in one.grants}


def _verify(fleet: Fleet, ask: Ask, plan: Plan, borrowed: Collection[str | None]) -> None:
    """Have ``fits`` say of every grant that nothing but work that may go is in its way; else it is a defect."""
    for grant in plan.grants:
        device = None if grant.device_id is None else fleet.device_state(grant.device_id)
        refusal = fits(ask, grant, fleet.node_state(grant.node_id), device)
        if refusal is Refusal.DEVICE_USED and grant.device_id in borrowed:
            continue
        if refusal not in (None, Refusal.DEVICE_YIELDS, Refusal.NODE_MEMORY, Refusal.NODE_CPU):
            raise PlanDefectError(f"would preempt for {grant} of {ask} but it is refused: {refusal}")
