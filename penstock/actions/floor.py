"""The floor as operators see it: sites, racks, nodes and the state of every device, as compact as it can be."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.domain.segment import SegmentState
from penstock.store import floor as floor_store
from penstock.store import tenant as tenant_store
from penstock.store.rows import Row

STATES: tuple[str, ...] = tuple(state.value for state in SegmentState)
HEALTHS: tuple[str, ...] = ("ok", "suspect", "failed")
NODE_STATES: tuple[str, ...] = ("ready", "recovering", "unreachable")
NOT_MEASURED = "-"
COOL_CELSIUS, HOT_CELSIUS = 20, 100
# Index 0 is "nobody"; characters from here on are letters in every encoding and no quote of JSON.
_FIRST_TENANT = 0x100


def show(context: Context, actor: Actor) -> dict[str, Any]:
    """Return the floor; 100,000 devices are some 100 kB, a few letters each.

    Every node is ``[id, name, state index, cordoned, states, tenants, healths, sold, busy, drawn, warm]`` where
    the last seven are texts with one character for each device: indices into ``states`` (from 'a'), into ``tenants`` (from
    U+0100, first: nobody) and into ``healths`` (from 'a'), and tenths from 0 to 9, '-' where nobody measures:
    of its slices, of its time, of the most it can draw, and of the way from COOL_CELSIUS to HOT_CELSIUS.
    """
    actor.require("device:read")
    with context.db.transaction(actor.scope) as connection:
        rows = floor_store.read(connection, context.clock.now() - limits.READING_FRESH)
        tenants = tenant_store.page(connection, tenant_id=None, name=None, after=None, limit=limits.PAGE_MAX)
    names = [tenant["id"] for tenant in tenants]
    index = {tenant_id: at for at, tenant_id in enumerate(names, start=1)}
    sites = [
        {
            "name": name,
            "simulated": simulated,
            "racks": [
                {"name": rack, "nodes": [_node(row, index) for row in nodes]}
                for rack, nodes in groupby(list(of_site), itemgetter("rack"))
            ],
        }
        for (name, simulated), of_site in groupby(rows, itemgetter("site", "simulated"))
    ]
    return {
        "at": context.clock.now(),
        "states": STATES,
        "healths": HEALTHS,
        "node_states": NODE_STATES,
        "celsius": (COOL_CELSIUS, HOT_CELSIUS),
        "tenants": ["", *(tenant["name"] for tenant in tenants)],
        "sites": sites,
    }


def _node(row: Row, tenants: Mapping[str, int]) -> list[Any]:
    states: Sequence[str] = row["states"] or ()
    return [
        row["id"],
        row["name"],
        NODE_STATES.index(row["state"]) if row["state"] in NODE_STATES else 0,
        1 if row["cordoned"] else 0,
        "".join(_STATE_LETTERS[state] for state in states),
        "".join(chr(_FIRST_TENANT + tenants.get(tenant or "", 0)) for tenant in row["tenants"] or ()),
        "".join(_HEALTH_LETTERS.get(health, "c") for health in row["healths"] or ()),
        "".join(_tenth(share) for share in row["sold_permille"] or ()),
        "".join(_tenth(share) for share in row["busy_permille"] or ()),
        "".join(_tenth(share) for share in row["drawn_permille"] or ()),
        "".join(_tenth(_warmth(celsius)) for celsius in row["celsius"] or ()),
    ]


_STATE_LETTERS = {state: chr(ord("a") + at) for at, state in enumerate(STATES)}
_HEALTH_LETTERS = {health: chr(ord("a") + at) for at, health in enumerate(HEALTHS)}


def _tenth(permille: int | None) -> str:
    return NOT_MEASURED if permille is None else str(min(9, int(permille) // 100))


def _warmth(celsius: int | None) -> int | None:
    """Return the share of the way from cool to hot, in permille."""
    if celsius is None:
        return None
    return max(0, celsius - COOL_CELSIUS) * 1_000 // (HOT_CELSIUS - COOL_CELSIUS)
