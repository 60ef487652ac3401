"""What a rule may fit, with its blanks filled in."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.domain.security_group import check_match, egress_default


def test_one_port_is_a_range_of_one() -> None:
    rule = check_match(direction="in", protocol="tcp", port_min=None, port_max=80, prefix="10.0.0.0/8")
    assert (rule["port_min"], rule["port_max"], rule["prefix"]) == (80, 80, "10.0.0.0/8")
    alone = check_match(direction="in", protocol="any", port_min=None, port_max=None, prefix="10.0.0.1")
    assert alone["prefix"] == "10.0.0.1/32"
    assert egress_default()["direction"] == "out"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("direction", {"direction": "both"}),
        ("protocol", {"protocol": "sctp"}),
        ("port_min", {"protocol": "icmp", "port_min": 8}),
        ("port_min", {"port_min": 0}),
        ("port_min", {"port_max": 65536, "port_min": 1}),
        ("port_max", {"port_min": 10, "port_max": 9}),
        ("prefix", {"prefix": "10.0.0.1/8"}),
        ("prefix", {"prefix": "::/0"}),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(field: str, change: dict[str, object]) -> None:
    good = {"direction": "in", "protocol": "tcp", "port_min": None, "port_max": None, "prefix": None}
    with pytest.raises(InvalidInputError) as caught:
        check_match(**{**good, **change}, field="acl.3.")  # pyright: ignore[reportArgumentType] - made to be wrong
    assert caught.value.field == f"acl.3.{field}"
