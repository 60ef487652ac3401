"""Predictions from what has ended, and from nothing else."""

from penstock.scheduler.queueing.history import ENOUGH, KEPT, UNKNOWN_S, History
from tests.support.gangs import gang


def test_before_anything_has_ended_nothing_is_known() -> None:
    history = History()
    assert history.quantile_s(gang(), 50) == UNKNOWN_S
    assert history.remaining_s(gang(), 10) == UNKNOWN_S
    assert history.remaining_s(gang(), 3 * UNKNOWN_S) == 3 * UNKNOWN_S


def test_the_closest_kind_with_enough_answers() -> None:
    history = History()
    for duration_s in (10, 20, 30):
        history.learn(gang(gpus=1, queue="a"), duration_s)
    history.learn(gang(gpus=8, queue="a"), 500)
    history.learn(gang(gpus=8, queue="b"), 900)
    assert history.quantile_s(gang(gpus=1, queue="a"), 50) == 20
    assert history.quantile_s(gang(gpus=8, queue="a"), 50) == 30, (
        "one of its size is not enough: its queue answers"
    )
    assert history.quantile_s(gang(gpus=1, queue="b"), 50) == 20, "its queue has one: its size answers"
    assert history.quantile_s(gang(gpus=2, queue="b"), 50) == 30, "nothing near: everything answers"
    assert ENOUGH == 3


def test_quantiles_and_what_remains() -> None:
    history = History()
    for duration_s in (100, 10, 50, 1_000):
        history.learn(gang(), duration_s)
    assert [history.quantile_s(gang(), percent) for percent in (0, 25, 50, 99, 100)] == [
        10,
        50,
        100,
        1_000,
        1_000,
    ]
    assert history.remaining_s(gang(), 60) == 940, (
        "of those that ran longer than 60, 100 and 1,000, the later"
    )
    assert history.remaining_s(gang(), 100) == 900
    assert history.remaining_s(gang(), 5_000) == 5_000, "outlived all: as much again"


def test_old_durations_are_forgotten() -> None:
    history = History()
    history.learn(gang(), 1)
    for _ in range(KEPT):
        history.learn(gang(), 70)
    assert history.quantile_s(gang(), 0) == 70
