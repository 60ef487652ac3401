"""A service: an ordered offer, its states, and the only ways between them."""

from dataclasses import dataclass
from enum import StrEnum


class Wanted(StrEnum):
    """What the tenant wants of a service."""

    RUNNING = "running"
    RELEASED = "released"


class ServiceState(StrEnum):
    """What a service is."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    ASLEEP = "asleep"
    RELEASING = "releasing"
    RELEASED = "released"
    FAILED = "failed"


ANSWERING = ("llm", "llm_external", "rag")  # the kinds that gateways lead to by the service's name

STATE_SENTENCES: dict[ServiceState, str] = {
    ServiceState.QUEUED: "accepted and inside every quota; waiting for a place",
    ServiceState.STARTING: "its place is held; the nodes are starting it",
    ServiceState.RUNNING: "it runs and is metered",
    ServiceState.DEGRADED: "a node or process it needs is lost; a replacement is on its way",
    ServiceState.ASLEEP: "no replica runs and none is held; the next request starts one",
    ServiceState.RELEASING: "being taken down; what it held is being given back",
    ServiceState.RELEASED: "gone; nothing is held and nothing is metered",
    ServiceState.FAILED: "could not be brought up; everything it held was given back",
}

TRANSITIONS: frozenset[tuple[ServiceState, ServiceState]] = frozenset(
    {
        (ServiceState.QUEUED, ServiceState.STARTING),
        (ServiceState.QUEUED, ServiceState.RELEASING),
        (ServiceState.QUEUED, ServiceState.FAILED),
        (ServiceState.STARTING, ServiceState.RUNNING),
        (ServiceState.STARTING, ServiceState.RELEASING),
        (ServiceState.STARTING, ServiceState.DEGRADED),
        (ServiceState.RUNNING, ServiceState.DEGRADED),
        (ServiceState.RUNNING, ServiceState.RELEASING),
        (ServiceState.DEGRADED, ServiceState.RUNNING),
        (ServiceState.DEGRADED, ServiceState.QUEUED),
        (ServiceState.DEGRADED, ServiceState.RELEASING),
        (ServiceState.QUEUED, ServiceState.ASLEEP),
        (ServiceState.STARTING, ServiceState.ASLEEP),
        (ServiceState.RUNNING, ServiceState.ASLEEP),
        (ServiceState.DEGRADED, ServiceState.ASLEEP),
        (ServiceState.ASLEEP, ServiceState.STARTING),
        (ServiceState.ASLEEP, ServiceState.RUNNING),
        (ServiceState.ASLEEP, ServiceState.RELEASING),
        (ServiceState.RELEASING, ServiceState.RELEASED),
        (ServiceState.RELEASING, ServiceState.FAILED),
    }
)

TERMINAL = frozenset({ServiceState.RELEASED, ServiceState.FAILED})


class Reason(StrEnum):
    """Why a service is where it is; stable codes, each with a sentence in ``REASON_SENTENCES``."""

    NONE = "none"
    NO_CAPACITY = "no_capacity"
    POWER_BUDGET = "power_budget"
    NEVER_FITS = "never_fits"
    CONFLICT = "placement_conflict"
    CLASS_QUOTA = "class_quota"
    START_DEADLINE = "start_deadline_passed"
    DRIVER_FAILED = "driver_failed"
    NODE_LOST = "node_lost"
    PROCESS_LOST = "process_lost"
    RELEASED_BY_USER = "released_by_user"
    RELEASE_STUCK = "release_waits_for_node"
    INVALID_SPEC = "invalid_spec"
    PREEMPTED = "preempted"
    PREEMPTING = "preempting"
    RECLAIMED = "reclaimed"
    SHARE_FIRST = "share_first"
    STANDS_BACK = "stands_back"
    MOVED = "moved"
    BOOKED = "booked"
    TIME_OVER = "time_over"


REASON_SENTENCES: dict[Reason, str] = {
    Reason.NONE: "",
    Reason.NO_CAPACITY: "nothing free fits right now; it starts as soon as something is released. See `penstock explain`",
    Reason.POWER_BUDGET: "a power budget has too little left for it; it starts as soon as work there ends or the budget is raised. See `penstock explain`",
    Reason.NEVER_FITS: "no node of this factory could ever hold it; change the order. See `penstock explain`",
    Reason.CLASS_QUOTA: "the classes that are free are used up in your quota; release something or ask for more quota",
    Reason.CONFLICT: "another order took the place first; planning again",
    Reason.START_DEADLINE: "it did not come up in time; everything it held was given back. Order again or ask the operator",
    Reason.DRIVER_FAILED: "the backend refused to start it",
    Reason.NODE_LOST: "a node it ran on stopped answering; it is being placed again",
    Reason.PROCESS_LOST: "a process of it ended; it is being started again",
    Reason.RELEASED_BY_USER: "released on request",
    Reason.RELEASE_STUCK: "a node that must confirm the removal does not answer; its devices stay held until it does or is declared lost",
    Reason.PREEMPTED: "it yielded to an order that does not; it starts again as soon as there is room",
    Reason.PREEMPTING: "work that yields is being stopped to make room; it starts as soon as that is gone",
    Reason.RECLAIMED: "it ran on devices borrowed from another tenant's guaranteed share, which were claimed back; it starts again as soon as there is room",
    Reason.SHARE_FIRST: "another tenant's guaranteed share comes first; it starts as soon as there is room beyond it",
    Reason.STANDS_BACK: "an order that has waited much longer comes first; it starts after that",
    Reason.MOVED: "its node is being taken out of work for maintenance; it is placed again elsewhere",
    Reason.BOOKED: "it waits for its reservation to begin, or for room in it",
    Reason.TIME_OVER: "the time it was ordered for is over",
    Reason.INVALID_SPEC: "the order cannot be turned into claims any more; its offer or model changed",
}


def may_move(source: ServiceState, target: ServiceState) -> bool:
    """Tell whether a service may go from ``source`` to ``target``; staying put is always allowed."""
    return source == target or (source, target) in TRANSITIONS


@dataclass(frozen=True, slots=True)
class PhaseName:
    """One stamped moment of a service's life, with the sentence the command line prints."""

    column: str
    sentence: str


PHASES: tuple[PhaseName, ...] = (
    PhaseName("ordered_at", "ordered"),
    PhaseName("queued_at", "queued"),
    PhaseName("placed_at", "placed"),
    PhaseName("started_at", "started"),
    PhaseName("loaded_at", "loaded"),
    PhaseName("running_at", "running"),
    PhaseName("first_token_at", "first token"),
    PhaseName("released_at", "released"),
)
