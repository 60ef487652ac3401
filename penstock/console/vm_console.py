"""The serial console of a machine, read: its newest part, as far back as it is kept. Each reading is audited."""

from starlette.responses import Response

from penstock.actions import vm as vm_actions
from penstock.actions import vm_console as console_actions
from penstock.base import limits
from penstock.console.edge import Visit, get

SIZES_KIB = (16, 64, 256, 1_024)


def read(visit: Visit) -> Response:
    """Show what a machine wrote; more of it if the address asks for more."""
    row = vm_actions.show(visit.context, visit.actor, visit.path("vm_id"))
    text = visit.query("kib", "16")
    kib = int(text) if text in map(str, SIZES_KIB) else SIZES_KIB[0]
    most = min(kib << 10, limits.CONSOLE_READ_BYTES_MAX)
    data = console_actions.read(visit.context, visit.actor, row["service_id"], bytes_max=most)
    return visit.page(
        "machine_console.html",
        vm=row,
        text=printable(data),
        kib=kib,
        sizes=SIZES_KIB,
        cut=len(data) == most,
        days=limits.CONSOLE_KEPT.days,
        may_type=visit.actor.may("vm_console:write", row["tenant_id"], row["project_id"]),
    )


def printable(data: bytes) -> str:
    """Return what a terminal would show of ``data``, roughly: without colours, moves of the cursor and the like."""
    text = data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    kept: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "\x1b":
            at = _after_sequence(text, at + 1)
            continue
        if text[at] in "\n\t" or text[at].isprintable():
            kept.append(text[at])
        at += 1
    return "".join(kept)


def _after_sequence(text: str, at: int) -> int:
    """Return where an escape sequence ends whose second character is at ``at`` (ECMA-48, CSI and two-character ones)."""
    if at < len(text) and text[at] == "[":
        at += 1
        while at < len(text) and not "@" <= text[at] <= "~":
            at += 1
    return at + 1


routes = [get("/machines/{vm_id}/console", read)]
