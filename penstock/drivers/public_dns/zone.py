"""A zone in memory and what it answers to one question (RFC 1034, 1035); dnspython reads and writes the messages. Pure."""

from collections.abc import Iterable
from typing import Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from penstock.domain.public_record import PublicName, PublicZone

SOA_TTL_SECONDS, NEGATIVE_TTL_SECONDS = 3_600, 60
UDP_BYTES_MAX = 1_232  # what passes everywhere without being cut in pieces
_UDP_BYTES_PLAIN = 512
_CHAIN_MAX = 8  # names that stand for other names, one behind the other
_IN = dns.rdataclass.IN
Sets = dict[dns.rdatatype.RdataType, dns.rrset.RRset]


class Zone:
    """What is answered; made anew whenever something changed."""

    def __init__(self, named: PublicZone, records: Iterable[PublicName], serial: int) -> None:
        self.origin = dns.name.from_text(named.suffix)
        self._names: dict[dns.name.Name, Sets] = {}
        self._above: set[dns.name.Name] = set()  # names that have no record and names below
        primary, *_ = named.name_servers
        soa = f"{primary}. hostmaster.{named.suffix}. {serial} 3600 900 604800 {NEGATIVE_TTL_SECONDS}"
        self._soa = self._add(self.origin, "SOA", SOA_TTL_SECONDS, soa)
        for server in named.name_servers:
            self._add(self.origin, "NS", SOA_TTL_SECONDS, f"{server}.")
        self.left_out: list[
            str
        ] = []  # what cannot be said on the wire; one tenant's never silences the others
        for one in records:
            value = {"CNAME": f"{one.value}.", "TXT": f'"{one.value}"'}.get(one.type, one.value)
            try:
                self._add(dns.name.from_text(one.name), one.type, one.ttl_seconds, value)
            except (dns.exception.DNSException, ValueError):
                self.left_out.append(one.name)

    def _add(self, name: dns.name.Name, kind: str, ttl_seconds: int, value: str) -> dns.rrset.RRset:
        new = dns.rrset.from_text(name, ttl_seconds, "IN", kind, value)
        sets = self._names.setdefault(name, {})
        there = sets.setdefault(new.rdtype, new)
        if there is not new:
            cast("Any", there).update(new)
        while name != self.origin and name.is_subdomain(self.origin):
            name = name.parent()
            self._above.add(name)
        return there

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Return the answer to a query that was read."""
        said = dns.message.make_response(query)
        if query.opcode() != dns.opcode.QUERY:
            said.set_rcode(dns.rcode.NOTIMP)
        elif len(query.question) != 1:
            said.set_rcode(dns.rcode.FORMERR)
        else:
            (question,) = query.question
            if question.rdclass != _IN or not question.name.is_subdomain(self.origin):
                said.set_rcode(dns.rcode.REFUSED)
            elif question.rdtype == dns.rdatatype.ANY:
                said.set_rcode(dns.rcode.NOTIMP)  # nobody needs it but who wants large answers sent elsewhere
            else:
                said.flags |= dns.flags.AA
                self._fill(said, question.name, question.rdtype)
        return said

    def _fill(self, said: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        for _ in range(_CHAIN_MAX):
            sets = self._names.get(name)
            if sets is None:
                if name not in self._above:
                    said.set_rcode(dns.rcode.NXDOMAIN)
                said.authority.append(self._soa)
                return
            if kind in sets:
                said.answer.append(sets[kind])
                return
            alias = sets.get(dns.rdatatype.CNAME)
            if alias is None:
                said.authority.append(self._soa)
                return
            if alias in said.answer:
                return  # it stands for itself
            said.answer.append(alias)
            name = cast("dns.name.Name", cast("Any", alias)[0].target)
            if not name.is_subdomain(self.origin):
                return  # who asked goes on elsewhere


def respond(zone: Zone | None, wire: bytes, *, tcp: bool) -> tuple[bytes, str] | None:
    """Return the bytes that answer a packet and the word for how (``NOERROR`` ...); None if it deserves none."""
    try:
        query = dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return None  # not a question: silence, so that nothing is sent to somebody who was only named
    if query.flags & dns.flags.QR:
        return None
    if zone is None:
        said = dns.message.make_response(query)
        said.set_rcode(dns.rcode.REFUSED)
    else:
        said = zone.answer(query)
    most = 65_535
    if not tcp:
        most = min(query.payload, UDP_BYTES_MAX) if query.edns >= 0 else _UDP_BYTES_PLAIN
    return said.to_wire(max_size=max(most, _UDP_BYTES_PLAIN), prefer_truncation=True), dns.rcode.to_text(
        said.rcode()
    )
