"""Public records: what may be said to the world, and under which name."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.domain.public_record import PublicZone, check_public_record, check_public_zone, full_name


def test_names_stand_in_their_tenants_part_of_the_zone() -> None:
    named = check_public_zone("Cloud.Example.Net.", ["NS1.example.net"])
    assert named == PublicZone("cloud.example.net", ("ns1.example.net",))
    assert full_name("www", named.of("acme")) == "www.acme.cloud.example.net"
    assert full_name("@", named.of("acme")) == "acme.cloud.example.net"


@pytest.mark.parametrize(
    ("name", "kind", "value", "kept"),
    [
        ("WWW", "A", "198.51.100.3", ("www", "198.51.100.3")),
        ("@", "AAAA", "2001:DB8::3", ("@", "2001:db8::3")),
        ("a.b", "CNAME", "Elsewhere.Example.", ("a.b", "elsewhere.example")),
        ("_dmarc", "TXT", "v=DMARC1; p=none", ("_dmarc", "v=DMARC1; p=none")),
    ],
)
def test_records_are_kept_in_one_form(name: str, kind: str, value: str, kept: tuple[str, str]) -> None:
    assert check_public_record(name, kind, value) == kept


@pytest.mark.parametrize(
    ("kind", "value"),
    [("A", "224.0.0.1"), ("AAAA", "fe80::1"), ("AAAA", "::"), ("A", "x"), ("CNAME", "a b")],
)
def test_what_nobody_can_reach_is_refused(kind: str, value: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_public_record("www", kind, value)
    assert refused.value.field == "value"


@pytest.mark.parametrize(
    ("suffix", "servers", "field"), [("net", ["a.b"], "suffix"), ("a.b", [], "name_servers")]
)
def test_a_zone_needs_a_name_and_a_server(suffix: str, servers: list[str], field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_public_zone(suffix, servers)
    assert refused.value.field == field
