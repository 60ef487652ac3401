"""Nodes that sleep: what may be powered down, what sleeps; accepted and woken after what it affects was shown."""

from typing import Any

from starlette.responses import Response

from penstock.actions import node as node_actions
from penstock.actions import policy as policy_actions
from penstock.actions import sleep as sleep_actions
from penstock.base import limits
from penstock.base.errors import ConflictError
from penstock.console import confirm
from penstock.console.edge import Visit, get, post
from penstock.console.formats import span
from penstock.console.formats import watts as as_power
from penstock.domain.policy import Sleeping
from penstock.domain.power_budget import watts
from penstock.store.rows import Row

PAGE = "/power/sleep"
NAME = "Sleeping nodes"


def show(visit: Visit) -> Response:
    """Show what may sleep and what sleeps."""
    return _page(visit)


def _page(visit: Visit, error: ConflictError | None = None) -> Response:
    proposed = [_told(row) for row in sleep_actions.proposed(visit.context, visit.actor)]
    policy = policy_actions.show(visit.context, visit.actor)
    return visit.page(
        "sleep.html",
        error.status if error else 200,
        proposed=proposed[: limits.PAGE_DEFAULT],
        more=max(0, len(proposed) - limits.PAGE_DEFAULT),
        saved_watts=sum(row["saved_watts"] for row in proposed),
        asleep=sleep_actions.asleep(visit.context, visit.actor, limits.PAGE_DEFAULT),
        policy=policy,
        never=policy.sleep is Sleeping.NEVER,
        may_write=visit.actor.may("node:write"),
        error=error,
    )


def _told(row: Row) -> dict[str, Any]:
    return {**row, "saved_watts": watts(row["saved_mw"])}


def _node(visit: Visit) -> Row:
    visit.actor.require("node:write")
    return node_actions.get(visit.context, visit.actor, visit.path("node_id"))


def ask_sleep(visit: Visit) -> Response:
    """Say what becomes of a node that is put to sleep, and of whoever needs it next."""
    row = _node(visit)
    found = [
        _told(one) for one in sleep_actions.proposed(visit.context, visit.actor) if one["id"] == row["id"]
    ]
    if not found:
        said = "it is in use, was not idle for long enough, or is kept ready"
        return visit.go(PAGE, f"{row['name']} may not sleep now: {said}.")
    wake_s = policy_actions.show(visit.context, visit.actor).wake_s
    effects = (
        f"Nothing runs on it or is booked there now; it has been idle for {span(found[0]['idle_s'])}.",
        f"It is turned off, which saves about {as_power(found[0]['saved_watts'])} (planned, not measured).",
        f"An order that needs it wakes it and waits for about {span(wake_s)}; a booking wakes it in time.",
    )
    return _ask(visit, row, "sleep", "Put to sleep", effects)


def ask_wake(visit: Visit) -> Response:
    """Say what waking a node costs."""
    row = _node(visit)
    wake_s = policy_actions.show(visit.context, visit.actor).wake_s
    effects = (
        f"It is turned on, and can be used in about {span(wake_s)}.",
        "It draws its idle power from then on, which counts in the budgets above it. If they have too little left, nothing happens.",
    )
    return _ask(visit, row, "wake", "Wake", effects)


def _ask(visit: Visit, row: Row, verb: str, title: str, effects: tuple[str, ...]) -> Response:
    return confirm.ask(
        visit,
        title=f"{title}: {row['name']}?",
        effects=effects,
        action=f"{PAGE}/{row['id']}/{verb}",
        button=f"{title}: {row['name']}",
        back=(PAGE, NAME),
    )


def sleep(visit: Visit) -> Response:
    """Put a node to sleep."""
    try:
        row = sleep_actions.sleep(visit.context, visit.actor, visit.path("node_id"))
    except ConflictError as error:
        return _page(visit, error)
    return visit.go(PAGE, f"{row['name']} was asked to sleep. Whatever needs it wakes it.")


def wake(visit: Visit) -> Response:
    """Wake a node."""
    try:
        row = sleep_actions.wake(visit.context, visit.actor, visit.path("node_id"))
    except ConflictError as error:
        return _page(visit, error)
    return visit.go(PAGE, f"{row['name']} was asked to wake.")


routes = [
    get(PAGE, show),
    get(PAGE + "/{node_id}/sleep", ask_sleep),
    post(PAGE + "/{node_id}/sleep", sleep),
    get(PAGE + "/{node_id}/wake", ask_wake),
    post(PAGE + "/{node_id}/wake", wake),
]
