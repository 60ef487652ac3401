"""What may be limited, by the form of its id."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.domain.rate_limit import Subject, subject_of


@pytest.mark.parametrize(
    ("prefix", "subject"),
    [("ten", Subject.TENANT), ("prj", Subject.PROJECT), ("key", Subject.KEY), ("svc", Subject.ENDPOINT)],
)
def test_an_id_says_what_is_limited(prefix: str, subject: Subject) -> None:
    assert subject_of(f"{prefix}_01") is subject


@pytest.mark.parametrize("subject_id", ["nod_01", "", "tenant", "usr_01"])
def test_nothing_else_has_limits(subject_id: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        subject_of(subject_id)
    assert caught.value.field == "subject_id"
