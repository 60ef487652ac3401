"""The floor: every device of the factory on one canvas, and the same as a table for whoever reads without it."""

import gzip
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from penstock.actions import floor as floor_actions
from penstock.console.edge import Visit, get
from penstock.console.secure import secured

FRESH_SECONDS = 1.0
# A large floor takes long to read: it is read for at most a fifth of the time, however many look at it.
FRESH_COST_FACTOR = 5
RACKS_LISTED = 200
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The floor as it was sent last; many screens on one wall cost one reading of the database."""

    fresh_until: float
    document: dict[str, Any]
    packed: bytes


def show(visit: Visit) -> Response:
    """Show the floor."""
    document = _current(visit).document
    racks = [
        (site["name"], site["simulated"], rack["name"] or "no rack", _counts(rack))
        for site in document["sites"]
        for rack in site["racks"]
    ]
    totals: Counter[str] = Counter()
    for _, _, _, counts in racks:
        totals.update(counts)
    nodes = [node for site in document["sites"] for rack in site["racks"] for node in rack["nodes"]]
    return visit.page(
        "floor.html",
        racks=racks[:RACKS_LISTED],
        left_out=max(0, len(racks) - RACKS_LISTED),
        totals=[(state, totals[state]) for state in floor_actions.STATES if totals[state]],
        devices=sum(totals.values()),
        nodes=len(nodes),
        lost=[node for node in nodes if floor_actions.NODE_STATES[node[2]] != "ready"],
    )


def _counts(rack: dict[str, Any]) -> Counter[str]:
    """Return how many devices of a rack are in each state."""
    letters: Counter[str] = Counter()
    for node in rack["nodes"]:
        letters.update(node[4])
    return Counter({floor_actions.STATES[ord(letter) - ord("a")]: n for letter, n in letters.items()})


def data(visit: Visit) -> Response:
    """Return the floor for the canvas."""
    drawn = _current(visit)
    headers = {"Vary": "Accept-Encoding", "Cache-Control": "no-store"}
    if "gzip" in visit.request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return secured(Response(drawn.packed, headers=headers, media_type="application/json"))
    return secured(Response(_dumped(drawn.document), headers=headers, media_type="application/json"))


def _current(visit: Visit) -> _Drawn:
    """Return the floor, moments old. The right to see it is checked for every visitor."""
    visit.actor.require("device:read")
    state = visit.request.app.state
    with _lock:
        drawn: _Drawn | None = getattr(state, "floor", None)
        now = visit.context.clock.monotonic()
        if drawn is None or now >= drawn.fresh_until:
            document = floor_actions.show(visit.context, visit.actor)
            packed = gzip.compress(_dumped(document), 1, mtime=0)
            ended = visit.context.clock.monotonic()
            fresh_until = ended + max(FRESH_SECONDS, FRESH_COST_FACTOR * (ended - now))
            drawn = state.floor = _Drawn(fresh_until, document, packed)
        return drawn


def _dumped(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_UTC_Z)


routes = [get("/floor", show), get("/floor.json", data)]
