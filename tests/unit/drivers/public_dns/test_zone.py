"""What a zone answers to one question, and to what is none."""

import dns.flags
import dns.message
import dns.rcode
import pytest

from penstock.domain.public_record import PublicName, PublicZone
from penstock.drivers.public_dns.zone import Zone, respond

RECORDS = [
    PublicName("www.acme.cloud.example.net", "A", 60, "198.51.100.3"),
    PublicName("www.acme.cloud.example.net", "A", 60, "198.51.100.4"),
    PublicName("www.acme.cloud.example.net", "AAAA", 60, "2001:db8::3"),
    PublicName("api.acme.cloud.example.net", "CNAME", 60, "www.acme.cloud.example.net"),
    PublicName("out.acme.cloud.example.net", "CNAME", 60, "www.elsewhere.example"),
    PublicName("loop.acme.cloud.example.net", "CNAME", 60, "loop.acme.cloud.example.net"),
    PublicName("acme.cloud.example.net", "TXT", 60, "v=spf1 -all"),
    PublicName("a.b.acme.cloud.example.net", "A", 60, "198.51.100.5"),
    *(PublicName("many.acme.cloud.example.net", "TXT", 60, f"{n:0200}") for n in range(9)),
]
ZONE = Zone(PublicZone("cloud.example.net", ("ns1.example.net",)), RECORDS, 7)


def asked(name: str, kind: str = "A", *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    found = respond(ZONE, query.to_wire(), tcp=tcp)
    assert found is not None
    said = dns.message.from_wire(found[0])
    assert said.id == query.id
    return said


@pytest.mark.parametrize(
    ("name", "kind", "texts"),
    [
        ("www.acme.cloud.example.net", "A", ["198.51.100.3", "198.51.100.4"]),
        ("WWW.Acme.Cloud.Example.Net", "AAAA", ["2001:db8::3"]),
        ("api.acme.cloud.example.net", "A", ["www.acme.cloud.example.net.", "198.51.100.3", "198.51.100.4"]),
        ("out.acme.cloud.example.net", "A", ["www.elsewhere.example."]),
        ("acme.cloud.example.net", "TXT", ['"v=spf1 -all"']),
        ("cloud.example.net", "NS", ["ns1.example.net."]),
    ],
)
def test_what_is_there_is_answered(name: str, kind: str, texts: list[str]) -> None:
    said = asked(name, kind)
    assert said.flags & dns.flags.AA
    assert [text for each in said.answer for text in sorted(one.to_text() for one in each)] == texts


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nobody.acme.cloud.example.net", "A", dns.rcode.NXDOMAIN),
        ("www.acme.cloud.example.net", "TXT", dns.rcode.NOERROR),
        ("b.acme.cloud.example.net", "A", dns.rcode.NOERROR),  # nothing there, something below
        ("www.other.example", "A", dns.rcode.REFUSED),
        ("www.acme.cloud.example.net", "ANY", dns.rcode.NOTIMP),
    ],
)
def test_what_is_not_there_is_said_in_the_right_way(name: str, kind: str, code: int) -> None:
    said = asked(name, kind)
    assert (said.rcode(), list(said.answer)) == (code, [])
    assert bool(said.authority) == (code in (dns.rcode.NXDOMAIN, dns.rcode.NOERROR))


def test_a_name_that_stands_for_itself_ends() -> None:
    assert len(asked("loop.acme.cloud.example.net").answer) == 1


def test_what_is_too_large_for_udp_is_asked_again_by_tcp() -> None:
    name = "many.acme.cloud.example.net"
    assert asked(name, "TXT").flags & dns.flags.TC
    assert len(asked(name, "TXT", tcp=True).answer[0]) == 9


@pytest.mark.parametrize(
    "wire",
    [b"", b"\0" * 11, b"\xff" * 40, dns.message.make_response(dns.message.make_query("a.", "A")).to_wire()],
    ids=["empty", "short", "noise", "an answer"],
)
def test_what_is_no_question_gets_no_answer(wire: bytes) -> None:
    assert respond(ZONE, wire, tcp=False) is None


def test_nothing_is_served_before_there_is_a_zone() -> None:
    found = respond(None, dns.message.make_query("a.example.net", "A").to_wire(), tcp=False)
    assert found is not None
    assert found[1] == "REFUSED"


def test_what_cannot_be_said_silences_nobody_else() -> None:
    bad = [
        PublicName(".".join(["a" * 60] * 5) + ".cloud.example.net", "A", 60, "198.51.100.3"),
        PublicName("b" * 64 + ".cloud.example.net", "A", 60, "198.51.100.3"),
        PublicName("c.cloud.example.net", "A", 60, "nonsense"),
    ]
    zone = Zone(PublicZone("cloud.example.net", ("ns1.example.net",)), [*bad, *RECORDS], 8)
    assert zone.left_out == [one.name for one in bad]
    query = dns.message.make_query("www.acme.cloud.example.net", "A")
    assert zone.answer(query).answer
