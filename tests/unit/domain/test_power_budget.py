"""Budgets judge exactly: what adds nothing passes, what overdraws is told by how much, sums go up the tree."""

import pytest

from penstock.domain.power_budget import (
    Added,
    PowerBudget,
    PowerLevel,
    host_mw,
    row_key,
    shortages,
    subjects,
    watts,
)
from tests.support.fleets import device, node


def budget(limit_mw: int | None, held_mw: int) -> PowerBudget:
    return PowerBudget("pbu_1", PowerLevel.RACK, "rck_1", "r01", limit_mw, held_mw)


@pytest.mark.parametrize(
    ("limit_mw", "held_mw", "added_mw", "lacking_mw"),
    [
        (1_000, 400, 600, 0),
        (1_000, 400, 601, 1),
        (1_000, 1_400, 0, 0),  # overcommitted, and nothing added
        (1_000, 1_400, -5, 0),
        (1_000, 1_400, 1, 401),
        (0, 0, 1, 1),
        (None, 10**12, 10**12, 0),  # removed
    ],
)
def test_what_a_budget_lacks(limit_mw: int | None, held_mw: int, added_mw: int, lacking_mw: int) -> None:
    assert budget(limit_mw, held_mw).lacks_mw(added_mw) == lacking_mw


def test_a_shortage_is_told_in_whole_watts_and_never_too_small() -> None:
    (short,) = shortages([(budget(40_000_000, 39_500_001), 1_020_000)])
    assert (short.limit_watts, short.held_watts, short.lacking_watts) == (40_000, 39_501, 521)
    assert "rack r01 may draw 40,000 W and 39,501 W of it are held: 521 W more" in short.sentence
    assert shortages([(budget(40_000_000, 0), 1)]) == ()


def test_grants_add_up_the_tree_and_a_device_counts_once() -> None:
    added = Added()
    place = node("n", rack_id="r", site_id="s", row="a", wake_mw=7)
    added.add(place, device("d", "n"), 100)
    added.add(node("n", rack_id="r", site_id="s", row="a"), device("d", "n", used_mask=1), 100)
    added.add(node("m", site_id="s"), None, 0)
    assert added.mw == {
        (PowerLevel.DEVICE, "d"): 100,
        (PowerLevel.NODE, "n"): 107,
        (PowerLevel.RACK, "r"): 107,
        (PowerLevel.ROW, "s/a"): 107,
        (PowerLevel.SITE, "s"): 107,
    }
    rack = PowerBudget("pbu_1", PowerLevel.RACK, "r", "r", 1, 0)
    assert added.at({(PowerLevel.RACK, "r"): rack}) == [(rack, 107)]


def test_a_node_is_part_of_what_it_names() -> None:
    assert subjects("n", None, None, "s") == {PowerLevel.NODE: "n", PowerLevel.SITE: "s"}
    assert subjects("n", "r", "a", "s")[PowerLevel.ROW] == row_key("s", "a")


def test_a_host_of_128_threads_holds_what_was_measured_at_full_load() -> None:
    assert watts(host_mw(128)) == 655  # 654 W at the 80th percentile, rounded per thread
