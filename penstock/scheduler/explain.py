"""Explain: why here, why not yet, who else was looked at, and what would succeed now.

A counterfactual is offered only after ``place`` has found room for it on the same fleet. Explaining is for
people who ask, not for the path of an order: it may look at the whole fleet.
"""

from dataclasses import dataclass

from penstock.base.limits import COUNTERFACTUALS_MAX
from penstock.base.units import format_bytes
from penstock.domain.claim import REFUSAL_SENTENCES, Ask, Refusal
from penstock.scheduler.candidates import Candidate, losers
from penstock.scheduler.counterfactuals import Counterfactual, counterfactuals, more_power
from penstock.scheduler.filters import Capacity, capacity_of, ceiling_of, need_of
from penstock.scheduler.gang import most_ever, most_in_shape
from penstock.scheduler.plan import Limit, NoPlan, Plan, binding_sentence
from penstock.scheduler.snapshot import Fleet
from penstock.scheduler.topology import site_units


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a person reads about one decision; ``to_json`` is what the decision record keeps.

    ``snapshot`` is the state the decision was made on; ``explained_on`` the one the candidates and
    counterfactuals were worked out on, which is later where the two differ.
    """

    placed: bool
    headline: str
    reasons: tuple[str, ...]
    binding: str | None
    never_fits: bool
    candidates: tuple[Candidate, ...]
    counterfactuals: tuple[Counterfactual, ...]
    snapshot: str
    explained_on: str

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "placed": self.placed,
            "headline": self.headline,
            "reasons": list(self.reasons),
            "binding": self.binding,
            "never_fits": self.never_fits,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "counterfactuals": [one.to_json() for one in self.counterfactuals],
            "snapshot": self.snapshot,
            "explained_on": self.explained_on,
        }


def explain(fleet: Fleet, ask: Ask, decision: Plan | NoPlan, *, replicas: int = 1) -> Explanation:
    """Put ``decision`` on ``ask`` into words, on ``fleet`` as it is now; the fleet is left as it was.

    ``replicas`` is how often the order needs ``ask`` (an endpoint of several replicas).
    """
    if isinstance(decision, Plan):
        return Explanation(
            placed=True,
            headline=_where(decision),
            reasons=tuple(reason.sentence for reason in decision.score_reasons),
            binding=None,
            never_fits=False,
            candidates=losers(fleet, ask, decision),
            counterfactuals=(),
            snapshot=decision.snapshot,
            explained_on=fleet.digest(),
        )
    return Explanation(
        placed=False,
        headline=_short_of_power(decision) or _why_not(fleet, ask, decision),
        reasons=tuple(_turned_away(ask, decision)),
        binding=decision.binding.value,
        never_fits=decision.never_fits,
        candidates=losers(fleet, ask, None),
        counterfactuals=(
            *more_power(fleet, ask, decision, replicas),
            *counterfactuals(fleet, ask, seed=decision.seed, replicas=replicas),
        )[:COUNTERFACTUALS_MAX],
        snapshot=decision.snapshot,
        explained_on=fleet.digest(),
    )


def _where(plan: Plan) -> str:
    """Say where the order went."""
    nodes = list(dict.fromkeys(chosen.node for chosen in plan.chosen))
    domains = list(dict.fromkeys(chosen.nvlink_domain for chosen in plan.chosen if chosen.nvlink_domain))
    names = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
    if plan.device_class is None:
        return f"on {names}: {plan.chosen[0].why}"
    pieces = sum(chosen.devices for chosen in plan.chosen)
    text = f"{pieces} x {plan.device_class} on {names}"
    if len(domains) == 1:
        text += f", NVLink domain {domains[0]}"
    elif domains:
        text += f", over {len(domains)} NVLink domains"
    return text


def _capacities(fleet: Fleet, ask: Ask) -> list[Capacity]:
    found = [capacity_of(fleet, pool, need_of(ask)) for pool in fleet.pools_for(ask)]
    closed = fleet.closed_to(ask)
    return [one.narrowed(closed, keep=False) if closed else one for one in found]


def _kind(ask: Ask) -> str:
    """Name one unit of what is asked for, in the plural."""
    of = ask.device_class or (
        f"devices with at least {format_bytes(ask.memory_bytes_min)}" if ask.memory_bytes_min else "devices"
    )
    return f"runs of {ask.slices} slices of {of}" if ask.slices else of


def _short_of_power(decision: NoPlan) -> str:
    """Name the power budgets that alone stand in the way; empty without any."""
    if not decision.short:
        return ""
    return "it would fit but for power: " + "; ".join(one.sentence for one in decision.short)


def _why_not(fleet: Fleet, ask: Ask, decision: NoPlan) -> str:
    """Name the binding constraint with its figures."""
    if ask.count == 0:
        return _why_no_node(ask, decision)
    capacities, kind = _capacities(fleet, ask), _kind(ask)
    if decision.binding is Limit.NOTHING_KNOWN or not capacities:
        return f"this factory has no {kind}"
    if decision.never_fits:
        return _never(fleet, ask, decision, capacities)
    if decision.binding in (Limit.NVLINK_DOMAIN, Limit.AREA):
        most = max(most_in_shape(one, ask) for one in capacities)
        free = max(int(site_units(one).max()) for one in capacities)
        return f"{free} {kind} are free, but {_shape(ask, now=True)} can hold {most} of the {ask.count}"
    if decision.binding is Limit.ONE_SITE:
        most = max(int(site_units(one).max()) for one in capacities)
        free = max(one.units() for one in capacities)
        return f"{free} {kind} are free, but no site can hold more than {most} of the {ask.count}"
    if decision.binding is Limit.ONE_CLASS:
        most = max(one.units() for one in capacities)
        return f"{decision.free_matching} {kind} are free, but of one class only {most} of the {ask.count}"
    if not isinstance(decision.binding, Refusal):
        return binding_sentence(decision.binding)
    sentence = f"{decision.free_matching} of the {ask.count} {kind} it needs are free"
    turned = decision.rejected.get(decision.binding, 0)
    return f"{sentence}; most others are out because {REFUSAL_SENTENCES[decision.binding]} ({turned} devices)"


def _never(fleet: Fleet, ask: Ask, decision: NoPlan, capacities: list[Capacity]) -> str:
    """Say what the hardware could hold at most, whatever runs on it."""
    kind = _kind(ask)
    need = need_of(ask)
    ceilings = [ceiling_of(fleet, one.pool, need) for one in capacities]
    if decision.binding in (Limit.NVLINK_DOMAIN, Limit.AREA):
        pairs = zip(capacities, ceilings, strict=True)
        if ask.slices:
            most = max(one.one_domain for one in ceilings)
        else:
            most = max(most_ever(fleet, one.pool, ask, ceiling) for one, ceiling in pairs)
        return f"{_shape(ask)} here could ever hold {ask.count} {kind}: the largest holds {most}"
    most = max(one.one_site for one in ceilings)
    if most == 0 and isinstance(decision.binding, Refusal):
        turned = decision.rejected.get(decision.binding, 0)
        return f"no {kind} here could ever be had: {REFUSAL_SENTENCES[decision.binding]} ({turned} devices)"
    return f"no site here could ever hold {ask.count} {kind} of one class: the most is {most}"


def _shape(ask: Ask, *, now: bool = False) -> str:
    """Name the places that have the shape of an order: all of them, or with ``now`` those with most free."""
    limit, area = ask.domain_limit, ask.within.value if ask.within is not None else ""
    many = f"{limit} NVLink domains" if limit > 1 else "NVLink domain" if limit else area
    of = f" of one {area}" if limit and area else ""
    if now:
        return f"the {many} with most free{of}"
    return f"no {many}{of}"


def _why_no_node(ask: Ask, decision: NoPlan) -> str:
    size, cores = format_bytes(ask.node_memory_bytes), ask.node_cpu_millis / 1000
    what = f"{size} of memory and {cores:g} CPU cores with driver '{ask.driver}'"
    if not isinstance(decision.binding, Refusal):
        return f"this factory has no node that could give {what}"
    ever = "no node here could ever give" if decision.never_fits else "no node can give"
    turned = decision.rejected.get(decision.binding, 0)
    return f"{ever} {what}; at {turned} of {decision.candidates_considered} {REFUSAL_SENTENCES[decision.binding]}"


def _turned_away(ask: Ask, decision: NoPlan) -> list[str]:
    """Return one sentence per filter, the one that turned most away first."""
    noun = "nodes" if ask.count == 0 else "devices"
    ranked = sorted(decision.rejected.items(), key=lambda item: -item[1])
    return [f"{count} {noun}: {REFUSAL_SENTENCES[refusal]}" for refusal, count in ranked]
