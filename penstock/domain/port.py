"""Ports: where something is plugged into a network. A port keeps its addresses for life, whatever is behind it.

What a hypervisor (or whatever else stands behind a port) does with one:

1. ``store.port.bind(connection, port_id, node_id, service_id=..., at=...)`` in the transaction that places the guest,
   then ``context.wakeups.signal("network")``. The engine prepares the network on that node.
2. Wait until ``store.port.ready(connection, port_id)``: the bridge is there and the rules of the port are in force.
3. Plug in a tap or a veth with the name ``tap_name(port_id)`` and the guest's MAC ``mac`` into the bridge
   ``domain.network.bridge_name(vni)``; ``store.port.attachment`` returns all of it. A device of another name in that
   bridge is let through by nothing. In libvirt's words::

       <interface type='bridge'>
         <source bridge='pnb4096'/> <target dev='pntxxxxxxxxxxxx'/> <mac address='02:...'/>
         <port isolated='yes'/> <mtu size='1450'/> <model type='virtio'/>
       </interface>

4. To move a guest that runs, ``expect`` the port on the other node first, wait until it is ``ready`` again, let the
   guest go, and ``bind`` it there when it has arrived; packets follow the guest by themselves in between. A port
   that nothing uses is bound to another node at once. To stop it, leave it bound or ``unbind`` it: the addresses stay.

Address, router, name server and further DHCP options reach the guest by DHCP; nothing has to be written into it.
"""

from dataclasses import dataclass
from hashlib import sha256

TAP_PREFIX = "pnt"
_TAP_CHARACTERS = 12  # of the 15 that Linux gives a device's name: 60 of the id's 80 random bits


@dataclass(frozen=True, slots=True)
class Attachment:
    """All that whoever plugs a guest in must know."""

    port_id: str
    network_id: str
    subnet_id: str
    name: str
    mac: str
    address: str
    prefix_length: int
    gateway: str
    tap: str
    bridge: str
    mtu: int
    node_id: str | None
    arriving_node_id: str | None
    service_id: str | None


def tap_name(port_id: str) -> str:
    """Return the name of the device on the host that stands for this port."""
    return TAP_PREFIX + port_id[-_TAP_CHARACTERS:]


def mac_of(port_id: str, attempt: int = 0) -> str:
    """Return the hardware address of a new port: local, unicast, of its id; ``attempt`` gives further ones.

    The first octets are never those of routers (``02:70:6e``).
    """
    digest = sha256(f"{port_id}.{attempt}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x0A, *digest[:5]))
