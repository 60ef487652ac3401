"""What may stand in a private zone."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.domain.dns_record import check_record


def test_records_are_written_in_one_way() -> None:
    assert check_record("WWW", "A", "10.0.0.9") == ("www", "10.0.0.9")
    assert check_record("@", "TXT", "v=1 all") == ("@", "v=1 all")
    assert check_record("_sip._tcp", "CNAME", "SIP.prod.internal.") == ("_sip._tcp", "sip.prod.internal")


@pytest.mark.parametrize(
    ("name", "kind", "value", "field"),
    [
        ("a..b", "A", "10.0.0.9", "name"),
        ("-a", "A", "10.0.0.9", "name"),
        ("a\nb", "A", "10.0.0.9", "name"),
        ("a", "A", "10.0.0", "value"),
        ("@", "CNAME", "a.b", "name"),
        ("a", "CNAME", "a b", "value"),
        ("a", "TXT", 'x"\naddress=/#/1.2.3.4', "value"),
        ("a", "TXT", "x" * 256, "value"),
        ("a", "TXT", "Ä", "value"),
    ],
)
def test_what_would_break_a_zone_or_a_configuration_is_refused(
    name: str, kind: str, value: str, field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_record(name, kind, value)
    assert caught.value.field == field
