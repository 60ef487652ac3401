"""What placement answers: a plan, or why there is none; both go into the decision record as JSON."""

from dataclasses import dataclass
from enum import StrEnum

from penstock.domain.claim import REFUSAL_SENTENCES, Grant, Refusal
from penstock.domain.power_budget import PowerShortage


class Limit(StrEnum):
    """What binds when enough devices are free but not in the shape asked for."""

    NVLINK_DOMAIN = "nvlink_domain"
    AREA = "area"
    ONE_CLASS = "one_class"
    ONE_SITE = "one_site"
    TOO_LARGE = "too_large"
    NOTHING_KNOWN = "nothing_known"


LIMIT_SENTENCES: dict[Limit, str] = {
    Limit.NVLINK_DOMAIN: "enough are free, but not in as few NVLink domains as it asks for",
    Limit.AREA: "enough are free, but not in one rack, under one leaf or in one pod as it asks for",
    Limit.ONE_CLASS: "enough are free, but not of one class, and an order is never mixed",
    Limit.ONE_SITE: "enough are free, but not at one site",
    Limit.TOO_LARGE: "no site has hardware enough of one class, even with everything free",
    Limit.NOTHING_KNOWN: "the factory has nothing of this kind",
}

Binding = Refusal | Limit


def binding_sentence(binding: Binding) -> str:
    """Return what binds in words."""
    return REFUSAL_SENTENCES[binding] if isinstance(binding, Refusal) else LIMIT_SENTENCES[binding]


class PlanDefectError(RuntimeError):
    """The planner chose something that ``fits`` refuses: a defect of the planner, never of the order."""


@dataclass(frozen=True, slots=True)
class ScoreReason:
    """One rule that decided, with the figure it decided on."""

    code: str
    sentence: str
    value: int

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {"code": self.code, "sentence": self.sentence, "value": self.value}


@dataclass(frozen=True, slots=True)
class Chosen:
    """One node of a plan. ``numa_nodes``: those of the host that its devices are near, as far as somebody says."""

    node: str
    nvlink_domain: str | None
    devices: int
    why: str
    numa_nodes: tuple[int, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "node": self.node,
            "nvlink_domain": self.nvlink_domain,
            "devices": self.devices,
            "why": self.why,
            "numa_nodes": list(self.numa_nodes),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Where an order goes. ``snapshot`` is the digest of the fleet it was made on.

    ``candidates_considered`` counts the devices (for a node share: the nodes) looked at, ``rejected`` how
    many of them each filter turned away. Every grant was judged by ``domain.claim.fits`` in order.
    """

    grants: tuple[Grant, ...]
    device_class: str | None
    score_reasons: tuple[ScoreReason, ...]
    candidates_considered: int
    rejected: dict[Refusal, int]
    chosen: tuple[Chosen, ...]
    snapshot: str
    seed: int

    def to_json(self) -> dict[str, object]:
        """Return plain data for the decision record."""
        return {
            "placed": True,
            "snapshot": self.snapshot,
            "seed": self.seed,
            "device_class": self.device_class,
            "candidates_considered": self.candidates_considered,
            "rejected": {refusal.value: count for refusal, count in self.rejected.items()},
            "reasons": [reason.to_json() for reason in self.score_reasons],
            "chosen": [chosen.to_json() for chosen in self.chosen],
            "grants": [
                {
                    "node": grant.node_id,
                    "device": grant.device_id,
                    "mask": grant.mask,
                    "node_memory_bytes": grant.node_memory_bytes,
                    "node_cpu_millis": grant.node_cpu_millis,
                }
                for grant in self.grants
            ],
        }


@dataclass(frozen=True, slots=True)
class NoPlan:
    """Why an order waits.

    ``binding`` is the rule that stands in the way, ``never_fits`` tells that no amount of releasing would
    help, ``free_matching`` counts the units (devices, slices of the size asked for, or nodes) that match
    and are free. ``short``: the power budgets that stand in the way, where it would fit but for them.
    """

    binding: Binding
    candidates_considered: int
    rejected: dict[Refusal, int]
    never_fits: bool
    free_matching: int
    snapshot: str
    seed: int
    short: tuple[PowerShortage, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return plain data for the decision record."""
        return {
            "placed": False,
            "snapshot": self.snapshot,
            "seed": self.seed,
            "binding": self.binding.value,
            "binding_sentence": binding_sentence(self.binding),
            "never_fits": self.never_fits,
            "free_matching": self.free_matching,
            "candidates_considered": self.candidates_considered,
            "rejected": {refusal.value: count for refusal, count in self.rejected.items()},
            "power_short": [one.to_json() for one in self.short],
        }
