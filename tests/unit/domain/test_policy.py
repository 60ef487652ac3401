"""Policies are data with defaults; what cannot be is named."""

from dataclasses import asdict

import pytest

from penstock.base.errors import InvalidInputError
from penstock.domain.policy import TIME_MAX_S, Policy, Queue, Reclaim, policy_from


def test_what_is_not_given_has_its_default() -> None:
    assert policy_from({}) == Policy()
    changed = policy_from({"queue": "first-come", "reclaim": "never", "bound_s": 900})
    assert (changed.queue, changed.reclaim, changed.bound_s) == (Queue.FIRST_COME, Reclaim.NEVER, 900)
    assert policy_from(asdict(changed)) == changed


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"queue": "lottery"}, "queue"),
        ({"reclaim": None}, "reclaim"),
        ({"bound_s": -1}, "bound_s"),
        ({"bound_s": True}, "bound_s"),
        ({"starve_s": TIME_MAX_S + 1}, "starve_s"),
        ({"patience_s": 601}, "patience_s"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_cannot_be_names_its_field(values: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        policy_from(values)
    assert refused.value.field == field
