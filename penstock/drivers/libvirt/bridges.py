"""Whether guests can take the MAC of a bridge that this host itself is reached by.

A bridge that was given no MAC has the lowest of its ports', and libvirt gives guests' taps ones from ``fe:``. Where the
interface that leads outside has a higher one (random ones of veth, bonds and VLANs may), the bridge's changes with the first guest.
Guests that move have the same tap on both hosts: each then looks for the other host in its own guest, and the move stands still.
"""

from collections.abc import Callable
from typing import Any

from penstock.drivers.base import Check, CheckState

_TAPS = "fe:"
_HERE = 0  # the scope of an address that others reach; those of one link are on every bridge


def of_this_host() -> dict[str, str]:
    """Return the MACs of bridges that have an address of this host, by name."""
    import pyroute2  # noqa: PLC0415 - it takes a while, and only hosts of machines need it

    route: Any = pyroute2  # it ships no types
    with route.IPRoute() as ip:
        own = {one["index"] for one in ip.get_addr() if one["scope"] == _HERE}
        links = [one for one in ip.get_links(kind="bridge") if one["index"] in own]
        return {str(one.get("ifname")): str(one.get("address")) for one in links}


def bridges(seen: Callable[[], dict[str, str]] = of_this_host) -> list[Check]:
    """Warn of each bridge with an address of this host whose MAC is a guest's tap's, or may become one; nothing without such bridges."""
    found = seen()
    wrong = sorted(name for name, mac in found.items() if mac.startswith(_TAPS))
    if wrong:
        named = ", ".join(wrong)
        sentence = (
            f"{named}: this host is reached by it, and guests on it take its MAC, so that moves stand still; give it one "
            f"of its own, like 'ip link set {wrong[0]} address 02:00:00:00:00:01', another on each host, and keep it for the next start"
        )
        return [Check("bridges", CheckState.WARNING, sentence)]
    return (
        [Check("bridges", CheckState.OK, f"guests do not take the MAC of {', '.join(sorted(found))}")]
        if found
        else []
    )
