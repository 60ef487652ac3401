"""The table of rules in a network's namespace: who may reach whom, and what happens to addresses on the way out.

A packet is judged at both of its ends: by the rules of the port it comes from, then by the ACLs of subnets whose
edge it crosses, then by the rules of the port it goes to, each on the host where that port is. What is let through
is marked with a number for each of the two rules, so that taking a rule away cuts what it had let through and
nothing else. The table is replaced in one transaction: no packet meets half of it.
"""

from collections.abc import Mapping
from hashlib import sha256
from ipaddress import IPv4Network
from typing import Any

from penstock.domain.network import METADATA_ADDRESS
from penstock.drivers.network.model import AclEntry, External, HostNetwork, Peer, Port, Rule
from penstock.drivers.nftables.nft import Command, limited, log, match, meta, over, payload
from penstock.drivers.nftables.peers import name_of

TABLE = "penstock"
FAMILY = "ip"
LOG_GROUP = 7_470
GW, VX, EXT = "gw", "vx", "ext"
LOGGED_PER_SECOND = 100
IN_MASK, OUT_MASK = 0x0000FFFF, 0xFFFF0000
_PINGS_PER_SECOND = 50

Expression = dict[str, Any]


def table(wanted: HostNetwork, dropped: Mapping[str, int]) -> list[Command]:
    """Return the commands that replace the whole table by what is wanted; counters go on from what they have ``dropped``."""
    named = {"family": FAMILY, "name": TABLE}
    commands: list[Command] = [
        {"add": {"table": named}},
        {"delete": {"table": named}},
        {"add": {"table": named}},
        *_services(),
        *_own(wanted),
    ]
    for port in wanted.ports:
        commands += [_counter(_name(port, inwards=inwards), dropped) for inwards in (True, False)]
        commands += _port_chain(port, inwards=False)
        commands += _port_chain(port, inwards=True)
        commands += _back_chain(port)
    commands += _acls(wanted)
    commands += _forward(wanted)
    if wanted.external is not None:
        commands += _nat(wanted.external)
    return commands


def removal() -> list[Command]:
    """Return the commands that take the table away; it is there."""
    return [{"delete": {"table": {"family": FAMILY, "name": TABLE}}}]


def grants(wanted: HostNetwork) -> dict[str, tuple[int, int]]:
    """Return what lets packets through: for each port and rule a key of all it says, with (mark, mask) of flows."""
    found: dict[str, tuple[int, int]] = {}
    for port in wanted.ports:
        for inwards, rules in ((True, port.rules_in), (False, port.rules_out)):
            for rule in rules:
                mark = mark_of(port, rule, inwards=inwards)
                key = f"{port.id}|{port.address}|{inwards}|{rule}"
                found[key] = (mark, IN_MASK if inwards else OUT_MASK)
    return found


def mark_of(port: Port, rule: Rule, *, inwards: bool) -> int:
    """Return the number that a flow bears which this rule of this port let through: 16 bits, in its half."""
    number = int.from_bytes(sha256(f"{port.id}{rule.id}".encode()).digest()[:2], "big") or 1
    return number if inwards else number << 16


def _chain(name: str, **base: Any) -> Command:
    return {"add": {"chain": {"family": FAMILY, "table": TABLE, "name": name, **base}}}


def _base(name: str, kind: str, hook: str, priority: int, policy: str = "accept") -> Command:
    return _chain(name, type=kind, hook=hook, prio=priority, policy=policy)


def _rule(chain: str, *expressions: Any) -> Command:
    return {"add": {"rule": {"family": FAMILY, "table": TABLE, "chain": chain, "expr": list(expressions)}}}


def _counter(name: str, dropped: Mapping[str, int]) -> Command:
    counted = {"packets": dropped.get(name, 0), "bytes": 0}
    return {"add": {"counter": {"family": FAMILY, "table": TABLE, "name": name, **counted}}}


def _services() -> list[Command]:
    """Return what guests may ask of their router: an address, names, what the metadata service knows, a ping."""
    from_guest = match(meta("iifname"), GW)
    ping = [match(payload("icmp", "type"), "echo-request"), limited(_PINGS_PER_SECOND)]
    asks = [
        [match(payload("udp", "dport"), {"set": [53, 67]})],
        [match(payload("tcp", "dport"), 53)],
        [match(payload("ip", "daddr"), METADATA_ADDRESS), match(payload("tcp", "dport"), 80)],
        ping,
    ]
    return [
        _base("input", "filter", "input", 0, "drop"),
        _rule("input", match(meta("iifname"), "lo"), {"accept": None}),
        _rule("input", _state("established", "related"), {"accept": None}),
        *(_rule("input", from_guest, *ask, {"accept": None}) for ask in asks),
        _rule("input", match(meta("iifname"), EXT), *ping, {"accept": None}),
    ]


def _own(wanted: HostNetwork) -> list[Command]:
    """Return what the router itself may say: its name server asks others, never what is forbidden to guests."""
    refused = [_prefix(prefix) for prefix in wanted.forbidden]
    commands = [_base("output", "filter", "output", 0)]
    if refused:
        commands.append(_rule("output", match(payload("ip", "daddr"), {"set": refused}), {"drop": None}))
    return commands


def _state(*states: str) -> Expression:
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": list(states)}}


def _fits(rule: Rule, other: str, ports: str = "dport") -> list[Expression]:
    """Return the conditions of a rule; ``other``, ``ports`` are the header's fields with the other side's address and port."""
    conditions: list[Expression] = []
    if rule.remotes is not None:
        conditions.append(match(payload("ip", other), {"set": [_prefix(one) for one in rule.remotes]}))
    if rule.protocol != "any":
        if rule.port_min is not None:
            numbers = (
                rule.port_min if rule.port_min == rule.port_max else {"range": [rule.port_min, rule.port_max]}
            )
            conditions.append(match(payload(rule.protocol, ports), numbers))
        else:
            conditions.append(match(meta("l4proto"), rule.protocol))
    return conditions


def _prefix(prefix: IPv4Network) -> Any:
    if prefix.prefixlen == 32:
        return str(prefix.network_address)
    return {"prefix": {"addr": str(prefix.network_address), "len": prefix.prefixlen}}


def _everywhere(rule: Rule) -> bool:
    """Tell whether nobody can be the other side: a group without members."""
    return rule.remotes is not None and not rule.remotes


def _port_chain(port: Port, *, inwards: bool) -> list[Command]:
    name = _name(port, inwards=inwards)
    rules = port.rules_in if inwards else port.rules_out
    commands = [_chain(name)]
    for rule in rules:
        if _everywhere(rule):
            continue
        marked = _marked(mark_of(port, rule, inwards=inwards), inwards=inwards)
        verdict = {"accept": None} if inwards else {"return": None}
        fits = _fits(rule, "saddr" if inwards else "daddr")
        commands += [
            _rule(
                name,
                *fits,
                limited(LOGGED_PER_SECOND),
                log(f"A {rule.id} {port.id}", LOG_GROUP),
                *marked,
                verdict,
            ),
            _rule(name, *fits, *marked, verdict),
        ]
    word = "default-in" if inwards else "default-out"
    return [
        *commands,
        _rule(name, {"counter": name}),
        _rule(name, limited(LOGGED_PER_SECOND), log(f"D {word} {port.id}", LOG_GROUP), {"drop": None}),
        _rule(name, {"drop": None}),
    ]


def _back_chain(port: Port) -> list[Command]:
    """Return the chain that lets in what goes on of connections that a guest began before it came to this host."""
    if port.arriving is None:
        return []
    commands = [_chain(f"back_{port.id}")]
    for rule in port.rules_out:
        if not _everywhere(rule) and rule.protocol in ("any", "tcp"):
            marked = _marked(mark_of(port, rule, inwards=False), inwards=False)
            fits = _fits(rule, "saddr", ports="sport")
            commands.append(_rule(f"back_{port.id}", _goes_on(), *fits, *marked, {"accept": None}))
    return commands


def _goes_on() -> Expression:
    """Return the condition that a TCP packet does not begin a connection."""
    flags = {"&": [payload("tcp", "flags"), "syn"]}
    return {"match": {"op": "==", "left": flags, "right": 0}}


def _marked(mark: int, *, inwards: bool) -> list[Expression]:
    """Return the statement that writes a rule's number into its half of the flow's mark."""
    flow = {"ct": {"key": "mark"}}
    kept = {"&": [flow, OUT_MASK if inwards else IN_MASK]}
    return [{"mangle": {"key": flow, "value": {"|": [kept, mark]}}}]


def _name(port: Port, *, inwards: bool) -> str:
    return f"{'in' if inwards else 'out'}_{port.id}"


def _acls(wanted: HostNetwork) -> list[Command]:
    """Return the chain that stops what a subnet's ACL denies; what passes one goes on to the next."""
    commands = [_chain("acl")]
    for subnet in wanted.subnets:
        for inwards in (True, False):
            entries = [entry for entry in subnet.acl if entry.inwards == inwards]
            if entries:
                commands += _acl(f"acl_{subnet.id}_{'in' if inwards else 'out'}", subnet.prefix, entries)
    return commands


def _acl(name: str, prefix: IPv4Network, entries: list[AclEntry]) -> list[Command]:
    inwards = entries[0].inwards
    here, other = ("daddr", "saddr") if inwards else ("saddr", "daddr")
    commands = [_chain(name)]
    for entry in entries:
        if _everywhere(entry.rule):
            continue
        fits = _fits(entry.rule, other)
        if entry.allow:
            commands.append(_rule(name, *fits, {"return": None}))
        else:
            told = log(f"D {entry.rule.id} acl", LOG_GROUP)
            commands += [
                _rule(name, *fits, limited(LOGGED_PER_SECOND), told, {"drop": None}),
                _rule(name, *fits, {"drop": None}),
            ]
    crosses = [
        match(payload("ip", here), _prefix(prefix)),
        match(payload("ip", other), _prefix(prefix), "!="),
    ]
    return [*commands, _rule("acl", *crosses, {"jump": {"target": name}})]


def _forward(wanted: HostNetwork) -> list[Command]:
    rates = [
        _rule(
            "forward",
            match(meta("iifname"), GW),
            match(payload("ip", "saddr"), str(port.address)),
            over(max(1, port.kbit // 8)),
            {"drop": None},
        )
        for port in wanted.ports
        if port.kbit is not None
    ]
    # What must stay out of reach, whatever rules say: the operator's own networks, and addresses of routers.
    refused = [_prefix(prefix) for prefix in wanted.forbidden]
    forbidden = [
        _rule(
            "forward",
            match(meta("iifname"), GW),
            match(payload("ip", "daddr"), {"set": refused}),
            limited(LOGGED_PER_SECOND),
            log("D forbidden -", LOG_GROUP),
            {"drop": None},
        ),
        _rule(
            "forward",
            match(meta("iifname"), GW),
            match(payload("ip", "daddr"), {"set": refused}),
            {"drop": None},
        ),
    ]
    return [
        _base("forward", "filter", "forward", 0, "drop"),
        *rates,
        *_between_peers(wanted),
        _rule("forward", _state("established", "related"), {"accept": None}),
        _rule("forward", _state("invalid"), {"drop": None}),
        *(forbidden if refused else []),
        # From outside comes only what a floating address has let in.
        *(
            [_rule("forward", match(meta("iifname"), EXT), *_not_translated(), {"drop": None})]
            if wanted.external
            else []
        ),
        *_moving(wanted),
        *_ends(wanted, inwards=False),
        _rule("forward", {"jump": {"target": "acl"}}),
        *_ends(wanted, inwards=True),
        # On its way to another host, where the port that it goes to is judged, or outside.
        _rule("forward", match(meta("oifname"), {"set": [VX, EXT]}), {"accept": None}),
        *(
            _rule("forward", match(meta("oifname"), name_of(peer.vni)), {"accept": None})
            for peer in wanted.peers
        ),
    ]


def _between_peers(wanted: HostNetwork) -> list[Command]:
    """Return what may come from and go to peers at all: only between subnets of the two networks.

    What a peer sends to a port of another host is judged there, as packets and answers cross on different hosts.
    """
    own = [_prefix(subnet.prefix) for subnet in wanted.subnets]
    commands: list[Command] = []
    for peer in wanted.peers:
        commands += _between(peer, own)
    return commands


def _between(peer: Peer, own: list[Any]) -> list[Command]:
    theirs = [_prefix(prefix) for prefix in peer.prefixes]
    comes, goes = match(meta("iifname"), name_of(peer.vni)), match(meta("oifname"), name_of(peer.vni))
    source, target = payload("ip", "saddr"), payload("ip", "daddr")
    if not own or not theirs:
        return [_rule("forward", way, {"drop": None}) for way in (comes, goes)]
    return [
        _rule("forward", comes, match(source, {"set": theirs}, "!="), {"drop": None}),
        _rule("forward", comes, match(target, {"set": own}, "!="), {"drop": None}),
        _rule("forward", comes, match(meta("oifname"), VX), {"accept": None}),
        _rule("forward", comes, match(meta("oifname"), GW, "!="), {"drop": None}),
        _rule("forward", goes, match(meta("iifname"), GW, "!="), {"drop": None}),
        _rule("forward", goes, match(source, {"set": own}, "!="), {"drop": None}),
        _rule("forward", goes, match(target, {"set": theirs}, "!="), {"drop": None}),
    ]


def _moving(wanted: HostNetwork) -> list[Command]:
    """Return the rules for guests that move: packets follow one that has left, and never go back and forth."""
    left = [str(port.address) for port in wanted.ports if port.leaving is not None]
    between = [match(meta("iifname"), VX), match(meta("oifname"), VX)]
    follows = [match(payload("ip", "daddr"), {"set": left}, "!=")] if left else []
    return [
        _rule("forward", *between, *follows, {"drop": None}),
        *(
            _rule(
                "forward",
                match(meta("iifname"), GW, "!="),
                match(meta("oifname"), GW),
                match(payload("ip", "daddr"), str(port.address)),
                {"jump": {"target": f"back_{port.id}"}},
            )
            for port in wanted.ports
            if port.arriving is not None
        ),
    ]


def _not_translated() -> list[Expression]:
    return [{"match": {"op": "!", "left": {"ct": {"key": "status"}}, "right": "dnat"}}]


def _ends(wanted: HostNetwork, *, inwards: bool) -> list[Command]:
    """Return the rule that sends a packet to its port's chain; what comes from or goes to no port is dropped."""
    device, field = ("oifname", "daddr") if inwards else ("iifname", "saddr")
    verdict = "goto" if inwards else "jump"
    entries = [
        [str(port.address), {verdict: {"target": _name(port, inwards=inwards)}}] for port in wanted.ports
    ]
    at_port = match(meta(device), GW)
    if not entries:
        return [_rule("forward", at_port, {"drop": None})]
    known = [str(port.address) for port in wanted.ports] + [_prefix(prefix) for prefix, _ in wanted.routes]
    strange = _rule("forward", at_port, match(payload("ip", field), {"set": known}, "!="), {"drop": None})
    return [
        strange,
        _rule("forward", at_port, {"vmap": {"key": payload("ip", field), "data": {"set": entries}}}),
        *(
            _rule(
                "forward",
                at_port,
                match(payload("ip", field), _prefix(prefix)),
                {verdict: {"target": _name(port, inwards=inwards)}},
            )
            for prefix, via in wanted.routes
            for port in wanted.ports
            if port.address == via
        ),
    ]


def _nat(external: External) -> list[Command]:
    """Return the translation at the gateway: floating addresses one to one, everything else to the one way out."""
    commands = [
        _base("dnat", "nat", "prerouting", -100),
        _base("snat", "nat", "postrouting", 100),
    ]
    for one in external.floating:
        commands += [
            _rule("dnat", match(payload("ip", "daddr"), str(one.address)), {"dnat": {"addr": str(one.to)}}),
            _rule(
                "snat",
                match(meta("oifname"), EXT),
                match(payload("ip", "saddr"), str(one.to)),
                {"snat": {"addr": str(one.address)}},
            ),
        ]
    if external.nat:
        commands.append(_rule("snat", match(meta("oifname"), EXT), {"snat": {"addr": str(external.address)}}))
    return commands
