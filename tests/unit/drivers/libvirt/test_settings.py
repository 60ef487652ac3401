"""How many machines a host starts at the same time follows its processors."""

import pytest

from penstock.base import limits
from penstock.drivers.libvirt.settings import Settings, starts_by_default


@pytest.mark.parametrize(
    ("processors", "starts"), [(0, 1), (1, 1), (2, 2), (4, 3), (12, 3), (16, 4), (32, 8), (64, 16), (256, 16)]
)
def test_a_quarter_of_the_processors_and_a_few_on_a_small_host(processors: int, starts: int) -> None:
    assert starts_by_default(processors) == starts


def test_an_operator_may_say_another_number() -> None:
    assert Settings(starts_at_once=5).starts_at_once == 5
    assert 1 <= Settings().starts_at_once <= limits.VM_STARTS_AT_ONCE_MAX
