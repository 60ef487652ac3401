"""How many replicas an endpoint should have: from its policy, what gateways say and what was decided before.

Level-triggered: the same facts give the same answer, however often they are looked at. Growth waits for what is
starting already, so that a thousand waiters start one replica and not a thousand; from zero it is always one.
Shrinking waits until fewer would have done for a while, and goes by one replica at a time; to zero only after
``idle_seconds`` in which nobody asked for anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

FIELDS: tuple[str, ...] = (
    "replicas_min",
    "replicas_max",
    "queue_target",
    "tokens_target",
    "ttft_target_ms",
    "idle_seconds",
    "scale_up_seconds",
    "scale_down_seconds",
)
ELASTIC = ("llm", "rag")  # the kinds whose replicas may follow the load
GROWTH_MOST = 2  # times as many as there are, in one step
RECHECK = timedelta(seconds=2)  # while there is work: what a silent gateway said last grows old by the clock


@dataclass(frozen=True, slots=True)
class Policy:
    """What an endpoint's owner asked for. Targets are for each replica; ``ttft_target_ms`` None is none."""

    replicas_min: int = 1
    replicas_max: int = 1
    queue_target: int = 4  # requests that may wait for each replica
    tokens_target: int = 32_768  # tokens in flight: prompts and what their answers may grow to
    ttft_target_ms: int | None = None
    idle_seconds: int = 300
    scale_up_seconds: int = 15  # between two steps up
    scale_down_seconds: int = 120  # how long fewer must have done before a step down

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Policy | None":
        """Return the policy in an endpoint's spec; None for one with a fixed number of replicas."""
        if "replicas_min" not in spec and "replicas_max" not in spec:
            return None
        given = {name: spec[name] for name in FIELDS if spec.get(name) is not None}
        least = given.setdefault("replicas_min", 1)
        given.setdefault("replicas_max", max(1, least, spec.get("replicas", 1)))
        return cls(**given)

    @property
    def broken(self) -> str | None:
        """Return what is wrong with it, as a sentence; None if nothing."""
        if self.replicas_min > self.replicas_max:
            return f"replicas_min ({self.replicas_min}) is above replicas_max ({self.replicas_max})"
        return None

    def first(self, spec: Mapping[str, Any]) -> int:
        """Return with how many replicas an order begins: at least one, so that a defect shows at once."""
        return min(self.replicas_max, max(1, self.replicas_min, spec.get("replicas", 1)))


def is_elastic(service: Mapping[str, Any]) -> bool:
    """Tell whether a service's replicas are counted by its policy."""
    return service["kind"] in ELASTIC and Policy.of(service["spec"]) is not None


def replicas_wanted(service: Mapping[str, Any]) -> int:
    """Return how many replicas a service should have now: what was decided, else what its order begins with."""
    decided: int | None = service["replicas_wanted"]
    if decided is not None:
        return decided
    policy = Policy.of(service["spec"])
    return service["spec"].get("replicas", 1) if policy is None else policy.first(service["spec"])


def spec_for(service: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """Return the spec of as many fixed ``replicas``, for placement and quotas."""
    return {
        **{name: value for name, value in service["spec"].items() if name not in FIELDS},
        "replicas": replicas,
    }


@dataclass(frozen=True, slots=True)
class Load:
    """What all live gateways say of an endpoint; ``demanded``: a part of the factory itself needs it."""

    waiting: int = 0
    in_flight: int = 0
    tokens: int = 0
    ttft_us: int | None = None
    requests: int = 0  # that ended since the last look
    demanded: bool = False

    @property
    def any(self) -> bool:
        """Tell whether anybody wants something of it."""
        return self.demanded or self.waiting + self.in_flight + self.requests > 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier looks left: when somebody last wanted something, when no fewer would have done, the last steps."""

    busy_at: datetime
    needed_at: datetime
    up_at: datetime | None = None


class Why(StrEnum):
    """Why the number of replicas is what it is; stable codes, each with a sentence in ``WHY_SENTENCES``."""

    STEADY = "steady"
    WAKE = "wake"
    QUEUE = "queue"
    TOKENS = "tokens_in_flight"
    TTFT = "ttft_target"
    BOUNDS = "bounds"
    LESS = "less_load"
    IDLE = "idle"


WHY_SENTENCES: dict[Why, str] = {
    Why.STEADY: "as many as the load needs",
    Why.WAKE: "somebody asked and no replica was there",
    Why.QUEUE: "more requests wait than queue_target allows",
    Why.TOKENS: "more tokens are in flight than tokens_target allows",
    Why.TTFT: "the first token takes longer than ttft_target_ms",
    Why.BOUNDS: "replicas_min or replicas_max say so",
    Why.LESS: "fewer replicas would have done for scale_down_seconds",
    Why.IDLE: "nobody asked for anything for idle_seconds",
}


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas there should be, why, when to look again (None: when something is heard), what to remember."""

    replicas: int
    why: Why
    due_at: datetime | None
    memory: Memory


def scale(policy: Policy, load: Load, memory: Memory, *, wanted: int, ready: int, now: datetime) -> Scaling:
    """Return how many replicas there should be; ``wanted`` is the last answer, ``ready`` how many can be asked."""
    if load.any:
        memory = replace(memory, busy_at=now)
    bounded = min(policy.replicas_max, max(policy.replicas_min, wanted))
    if bounded != wanted:
        return _step(policy, load, memory, bounded, wanted, Why.BOUNDS, now)
    if wanted == 0:
        if load.any:
            return _step(policy, load, memory, 1, wanted, Why.WAKE, now)
        return Scaling(0, Why.IDLE, None, memory)
    if policy.replicas_min == 0 and now >= memory.busy_at + timedelta(seconds=policy.idle_seconds):
        return _step(policy, load, memory, 0, wanted, Why.IDLE, now)
    need, why = max(_needs(policy, load, wanted, ready), key=lambda found: found[0])
    need = min(policy.replicas_max, max(1, policy.replicas_min, need))
    if need >= wanted:
        memory = replace(memory, needed_at=now)
    if need > wanted:
        rests = memory.up_at is not None and now < memory.up_at + timedelta(seconds=policy.scale_up_seconds)
        if ready >= wanted and not rests:
            return _step(policy, load, memory, min(need, GROWTH_MOST * wanted), wanted, why, now)
    elif need < wanted and now >= memory.needed_at + timedelta(seconds=policy.scale_down_seconds):
        return _step(policy, load, replace(memory, needed_at=now), wanted - 1, wanted, Why.LESS, now)
    return Scaling(wanted, Why.STEADY, _next_look(policy, load, memory, wanted), memory)


def _step(
    policy: Policy, load: Load, memory: Memory, replicas: int, before: int, why: Why, now: datetime
) -> Scaling:
    if replicas > before:
        memory = replace(memory, up_at=now, needed_at=now)
    return Scaling(replicas, why, _next_look(policy, load, memory, replicas), memory)


def _needs(policy: Policy, load: Load, wanted: int, ready: int) -> list[tuple[int, Why]]:
    """Return how many replicas each signal asks for."""
    found = [(1 if load.any else 0, Why.STEADY), (-(-load.tokens // policy.tokens_target), Why.TOKENS)]
    allowed = policy.queue_target * ready
    if ready and load.waiting > allowed:
        found.append((wanted + -(-(load.waiting - allowed) // policy.queue_target), Why.QUEUE))
    late = policy.ttft_target_ms is not None and (load.ttft_us or 0) > policy.ttft_target_ms * 1_000
    if ready and late and load.any:
        found.append((wanted + 1, Why.TTFT))
    return found


def _next_look(policy: Policy, load: Load, memory: Memory, replicas: int) -> datetime | None:
    if load.any:
        return memory.busy_at + RECHECK
    if replicas == 0:
        return None
    looks = [memory.needed_at + timedelta(seconds=policy.scale_down_seconds)]
    if policy.replicas_min == 0:
        looks.append(memory.busy_at + timedelta(seconds=policy.idle_seconds))
    if replicas > max(1, policy.replicas_min):
        return min(looks)
    return looks[-1] if policy.replicas_min == 0 else None
