"""What is left of a node: fits, take and give back agree."""

import pytest

from penstock.base.errors import ConflictError
from penstock.scheduler.packing.residual import NodeKind, Request, Residuals, State
from tests.support.packing import BIG, CPU_ONLY, SMALL, ask


@pytest.mark.parametrize(
    ("kind", "request_", "fits"),
    [
        (SMALL, ask(2), True),
        (SMALL, ask(3), False),
        (SMALL, ask(cpu=16_000), True),
        (SMALL, ask(cpu=16_001), False),
        (SMALL, ask(memory=100_000), True),
        (SMALL, ask(memory=100_001), False),
        (SMALL, ask(models=0b10), True),
        (SMALL, ask(models=0b01), False),
        (CPU_ONLY, ask(0), True),
        (CPU_ONLY, ask(0, models=0b10), True),
        (CPU_ONLY, ask(), False),
        (BIG, ask(8), True),
    ],
)
def test_every_dimension_decides(kind: NodeKind, request_: Request, fits: bool) -> None:  # noqa: FBT001 - one column of the table
    assert Residuals([kind]).fits(0, request_) == fits


def test_take_and_give_back() -> None:
    left = Residuals([SMALL])
    assert left.unused(0)
    part = ask(milli=300, cpu=1_000, memory=10)
    left.take(0, part, (1,))
    assert not left.unused(0)
    assert left.state(0) == State(15_000, 1, (700, 1_000))
    assert left.state(0, in_order=True) == State(15_000, 1, (1_000, 700))
    assert left.used_milli == 300
    left.give_back(0, part, (1,))
    assert left.unused(0)
    assert left.used_milli == 0
    with pytest.raises(ConflictError):
        left.give_back(0, part, (1,))


@pytest.mark.parametrize("devices", [(), (0, 1), (0, 0)])
def test_the_wrong_devices_are_refused(devices: tuple[int, ...]) -> None:
    left = Residuals([SMALL])
    with pytest.raises(ConflictError):
        left.take(0, ask(), devices)
    assert left.unused(0)


def test_the_device_with_the_named_rest_is_chosen() -> None:
    left = Residuals([BIG])
    left.take(0, ask(milli=400), (3,))
    assert left.choose(0, ask(milli=500), 600) == (3,)
    assert left.choose(0, ask(milli=500), 1_000) == (0,)
    assert left.choose(0, ask(3), 0) == (0, 1, 2)
    assert left.choose(0, ask(0), 0) == ()
