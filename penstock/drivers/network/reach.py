"""What configs mean: whether a packet that begins a connection arrives. Pure; the reference for every driver.

It is asked with the configs of all hosts, as one host's config names the ports that are plugged in there only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from penstock.drivers.network.model import HostNetwork, Port, Rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a packet passes, and the id of the rule (or a word) that said so."""

    passes: bool
    why: str


def judge(
    hosts: Iterable[HostNetwork],
    source: IPv4Address,
    target: IPv4Address,
    protocol: str,
    port: int | None,
    others: Iterable[HostNetwork] = (),
) -> Verdict:
    """Return what becomes of a first packet from ``source`` to ``target`` from one network to itself or a peer.

    ``port`` is where it goes to, None for icmp. Of ``others``, those are part of the world that are peers.
    """
    known = list(hosts)
    known += [other for other in others if any(peered(one, other) for one in known)]
    sender, receiver = _find(known, source), _find(known, target)
    if sender is None or receiver is None:
        return Verdict(passes=False, why="no such port")
    out = _first(sender.rules_out, protocol, port, target)
    if out is None:
        return Verdict(passes=False, why="default-out")
    crossed = _acl(known, source, target, protocol, port)
    if crossed is not None:
        return Verdict(passes=False, why=crossed)
    into = _first(receiver.rules_in, protocol, port, source)
    return Verdict(passes=False, why="default-in") if into is None else Verdict(passes=True, why=into.id)


def peered(one: HostNetwork, other: HostNetwork) -> bool:
    """Tell whether two networks name each other as peers; one alone cannot open the way."""
    return other.vni in {peer.vni for peer in one.peers} and one.vni in {peer.vni for peer in other.peers}


def _find(hosts: list[HostNetwork], address: IPv4Address) -> Port | None:
    return next((port for host in hosts for port in host.ports if port.address == address), None)


def _first(rules: tuple[Rule, ...], protocol: str, port: int | None, other: IPv4Address) -> Rule | None:
    return next((rule for rule in rules if rule.fits(protocol, port, other)), None)


def _acl(
    hosts: list[HostNetwork], source: IPv4Address, target: IPv4Address, protocol: str, port: int | None
) -> str | None:
    """Return the id of the ACL line that stops the packet at the edge of a subnet; None if none does."""
    subnets = {subnet.id: subnet for host in hosts for subnet in host.subnets}
    for subnet in subnets.values():
        leaves, enters = source in subnet.prefix, target in subnet.prefix
        if leaves == enters:
            continue
        other = source if enters else target
        for entry in subnet.acl:
            if entry.inwards == enters and entry.rule.fits(protocol, port, other):
                if not entry.allow:
                    return entry.rule.id
                break
    return None
