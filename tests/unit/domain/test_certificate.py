"""Certificates: what they are worth when, and which names they may be for."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock.base.errors import InvalidInputError
from penstock.domain.certificate import (
    CERTIFICATE_STATE_SENTENCES,
    CertificateState,
    check_names,
    rotate_at,
    state_of,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
END = BEGIN + 30 * DAY


def test_a_life_of_thirty_days_is_followed_after_twenty() -> None:
    assert rotate_at(BEGIN, END) == BEGIN + 20 * DAY
    for days, state in ((0, "valid"), (19, "valid"), (20, "expiring"), (29, "expiring"), (30, "expired")):
        assert state_of(BEGIN, END, None, BEGIN + days * DAY) == state, days
    assert state_of(BEGIN, END, BEGIN, BEGIN + 40 * DAY) is CertificateState.REVOKED
    assert set(CERTIFICATE_STATE_SENTENCES) == set(CertificateState)


def test_names_are_hosts_and_addresses_each_once() -> None:
    asked = ["WWW.Prod.internal.", "*.prod.internal", "10.0.0.9", "www.prod.internal", "::1", "_x.a"]
    assert check_names(asked) == ["www.prod.internal", "*.prod.internal", "10.0.0.9", "::1", "_x.a"]


@pytest.mark.parametrize(
    "bad", ["", "a b", "-a.test", "a..b", "*", "a.*.b", "10.0.0.0/8", "x" * 64, "a\nb", "é.test", "a." * 128]
)
def test_what_is_no_name_is_named(bad: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_names(["good.test", bad])
    assert refused.value.field == "names.1"


def test_no_names_and_too_many_are_refused() -> None:
    for names in ([], ["x"] * 101):
        with pytest.raises(InvalidInputError) as refused:
            check_names(names)
        assert refused.value.field == "names"
