"""Points, euro and energy that can be worked out by hand."""

from typing import Any

import pytest

from penstock.base.errors import InvalidInputError
from penstock.twin.report.comparison import Terms, compare, number, pick, study_of
from tests.support.studies import place_result, queue_result

A, B = queue_result("easy", 70.0, 1.0), queue_result("penstock", 72.5, 0.2, lost_gpu_h=10.0)


def test_points_become_euro_a_year() -> None:
    """2.5 points of 100 GPUs are 2.5 GPUs: 21,900 GPU-hours a year."""
    comparison = compare([A], [B], Terms([2_000_000, 7_500_000]))
    assert (comparison.study, comparison.a, comparison.b, comparison.gpus) == (
        "queue",
        "easy",
        "penstock",
        100,
    )
    assert comparison.points == 2.5
    assert [value.microeur_per_year for value in comparison.values] == [43_800_000_000, 164_250_000_000]
    worse = compare([B], [A], Terms([2_000_000]))
    assert (worse.points, worse.values[0].microeur_per_year) == (-2.5, -43_800_000_000)


def test_the_better_side_depends_on_the_measure() -> None:
    better = {one.name: (one.better, one.difference) for one in compare([A], [B], Terms([])).measures}
    assert better["Utilisation"] == ("b", 2.5)
    assert better["Mean wait"] == ("b", -0.8)
    assert better["Makespan"] == ("", 0)
    assert better["Work lost to stops and moves"] == ("a", 10)


def test_energy_counts_lost_work_as_load() -> None:
    energy = compare([A], [B], Terms([], (100, 500))).energy
    assert energy is not None
    assert energy.a_kwh_per_year == round((0.7 * 500 + 0.3 * 100) * 100 * 8.76)
    assert energy.b_kwh_per_year == round((0.735 * 500 + 0.265 * 100) * 100 * 8.76)
    assert energy.a_wh_per_useful_gpu_hour == round(380 / 0.7, 1)


def test_charts_come_from_the_series_and_are_left_out_without_them() -> None:
    comparison = compare([A], [B], Terms([]))
    assert comparison.over is not None
    assert (comparison.over[1].x, comparison.over[1].y) == ((0, 2, 4), (10, 72.5, 0))
    assert comparison.waits is not None
    assert (comparison.waits.names, comparison.waits.b) == (("1", "8-15"), (0.2, 0.4))
    bare: list[dict[str, Any]] = [{"policy": name, "utilisation_pct": 50, "gpus": 4} for name in "ab"]
    plain = compare(bare[:1], bare[1:], Terms([]))
    assert (plain.over, plain.waits, plain.fragmentation, plain.points) == (None, None, None, 0)


def test_seeds_of_a_placement_study_count_as_their_mean() -> None:
    ours = [place_result("penstock", seed, 95.0 + seed) for seed in (0, 1)]
    comparison = compare([place_result("fgd", 0, 95.25)], ours, Terms([2_000_000], None, 6_000))
    assert comparison.points == 0.25
    assert comparison.values[0].microeur_per_year == 15 * 8_760 * 2_000_000
    assert comparison.fragmentation is not None
    assert (comparison.fragmentation.a, comparison.fragmentation.b) == (4.75, 4.5)
    assert comparison.over is not None
    assert comparison.over[0].x == (0, 5, 10)


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (A, place_result("fgd", 1, 95), "results of one study"),
        (A, {"policy": "x"}, "results of one study"),
        (A, queue_result("x", 70, 1, gpus=99), "do not agree on a number of GPUs"),
        (A, queue_result("x", 70, 1, gpus="many"), "do not agree on a number of GPUs"),
        (A, {**A, "mean_wait_h": "long"}, "'mean_wait_h' is not a number"),
        (A, {**A, "utilisation_pct": None}, "needs utilisation_pct"),
        (place_result("fgd", 1, 95), place_result("x", 1, 95), "give it with --gpus"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: dict[str, Any], b: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        compare([a], [b], Terms([]))


def test_policies_are_picked_by_name() -> None:
    assert pick([A, B, A], "easy") == [A, A]
    with pytest.raises(InvalidInputError, match="no result of policy 'fifo'; there are easy, penstock"):
        pick([A, B], "fifo")
    assert study_of([A, B]) == "queue"
    assert number([A, B], "window_h") == 10
    assert number([A, B], "nothing") is None
