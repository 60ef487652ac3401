"""Small pictures drawn on the server: bars as SVG, because the policy of the pages allows no inline style."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from penstock.domain.service import ANSWERING

WIDTH = 1_000  # of a bar in units of its own view box
SPARK_HEIGHT = 200
WARN_AT = 0.8
PHASES = ("ordered", "queued", "placed", "started", "loaded", "running", "first token")


def meter(used: int, limit: int, label: str) -> Markup:
    """Return a bar of what is used of a limit; full, nearly full and over look different."""
    share = 1.0 if limit <= 0 else used / limit
    look = "over" if share > 1 or (limit <= 0 and used > 0) else "full" if share >= WARN_AT else "fine"
    return _bar(look, share, label)


def _bar(look: str, share: float, label: str) -> Markup:
    width = round(min(share, 1.0) * WIDTH)
    return Markup(
        '<svg class="meter {}" viewBox="0 0 {} 10" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="back" width="{}" height="10"/><rect class="fill" width="{}" height="10"/></svg>'
    ).format(look, WIDTH, label, WIDTH, width)


def progress(done: int, total: int, label: str) -> Markup:
    """Return a bar of what is done; unlike a meter it looks the same when it is full."""
    return _bar("fine", done / max(total, 1), label)


def shares(parts: Sequence[tuple[str, int]], label: str) -> Markup:
    """Return one bar of parts of a whole; each part is named by its ledger state, which gives it its colour."""
    total = sum(amount for _, amount in parts)
    drawn: list[Markup] = []
    reached = 0
    for name, amount in parts:
        start = round(reached * WIDTH / total) if total else 0
        reached += amount
        end = round(reached * WIDTH / total) if total else 0
        if end > start:
            drawn.append(
                Markup('<rect class="s-{}" x="{}" width="{}" height="24"><title>{}</title></rect>').format(
                    name, start, end - start, f"{name.replace('_', ' ')}: {amount / total:.2%}"
                )
            )
    return Markup(
        '<svg class="shares" viewBox="0 0 {} 24" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, label, Markup().join(drawn))


def share_bar(guaranteed: int, used: int, most: int, label: str) -> Markup:
    """Return a share as one bar: used within what is guaranteed, then what of it is idle, or what is borrowed above it."""

    def rect(look: str, start: int, end: int) -> Markup:
        left, right = (round(amount * WIDTH / max(most, 1)) for amount in (start, end))
        if right <= left:
            return Markup()
        return Markup('<rect class="c-{}" x="{}" width="{}" height="14"/>').format(look, left, right - left)

    within = min(used, guaranteed)
    drawn = rect("in_use", 0, within) + rect("idle", within, guaranteed) + rect("borrowed", guaranteed, used)
    return Markup(
        '<svg class="share" viewBox="0 0 {} 14" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, label, drawn)


def spark(values: Sequence[int], most: int, label: str) -> Markup:
    """Return a small line of values between 0 and ``most``, oldest first."""
    step = WIDTH / max(len(values) - 1, 1)
    points = " ".join(
        f"{number * step:.0f},{SPARK_HEIGHT - SPARK_HEIGHT * min(value, most) / max(most, 1):.0f}"
        for number, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 -10 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<polyline points="{}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(WIDTH, SPARK_HEIGHT + 20, label, points)


def pipe(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the phases of a service for the timeline, up to the first token or, without a gateway, to running.

    Each has ``name``, ``state`` (done, now, ahead), ``at`` and the seconds it took since the phase before.
    """
    stamps = {
        "ordered": service["ordered_at"],
        "queued": service["queued_at"],
        "placed": service["placed_at"],
        "started": service["started_at"],
        "loaded": service["loaded_at"],
        "running": service["running_at"],
        "first token": service["first_token_at"],
    }
    names = [name for name in PHASES if name != "first token" or service["kind"] in ANSWERING]
    if service["kind"] not in ANSWERING and stamps["loaded"] is None:
        names.remove("loaded")
    over = service["state"] in ("released", "failed", "releasing")
    phases: list[dict[str, Any]] = []
    before = None
    waiting_found = False
    for name in names:
        at = stamps[name]
        state = "done" if at is not None else "ahead"
        if at is None and not waiting_found and not over:
            state, waiting_found = "now", True
        took = None if at is None or before is None else max(0.0, (at - before).total_seconds())
        phases.append({"name": name, "state": state, "at": at, "seconds": took})
        before = at or before
    return phases
