"""The policies are found by name."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.scheduler.packing.baselines import BestFit, DotProduct, FirstFit, Packing
from penstock.scheduler.packing.fragment import Fgd
from penstock.scheduler.packing.lookahead import Lookahead
from penstock.twin.place.policies import POLICIES, chosen, scorer
from tests.support.packing import BIG, ask, workload


def test_every_policy_has_its_scorer() -> None:
    _, mix, _ = workload(ask(), ask(milli=300))
    found = [type(scorer(policy, mix, [BIG])) for policy in POLICIES]
    assert found == [FirstFit, FirstFit, BestFit, DotProduct, Packing, Fgd, Lookahead]


def test_names_are_read_as_people_write_them() -> None:
    assert chosen(" FGD, penstock,") == ["fgd", "penstock"]
    for wrong in ("", "fgd,fgd", "none"):
        with pytest.raises(InvalidInputError):
            chosen(wrong)
