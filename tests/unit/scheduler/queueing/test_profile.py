"""Steps of free GPUs over time, compared with one number a second."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.scheduler.queueing.profile import Ends, Profile

taken = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30), st.integers(1, 20)), max_size=8)


@given(taken, st.integers(1, 10), st.integers(1, 15), st.integers(0, 40))
def test_the_earliest_time_is_the_first_at_which_it_fits(
    holds: list[tuple[int, int, int]], gpus: int, duration_s: int, from_s: int
) -> None:
    profile, seconds = Profile(10), [10] * 200
    for held, start_s, length_s in holds:
        profile.take(held, start_s, start_s + length_s)
        for second in range(start_s, start_s + length_s):
            seconds[second] -= held
    assert [profile.free_at(second) for second in range(60)] == seconds[:60]
    fits = (at for at in range(from_s, 100) if min(seconds[at : at + duration_s]) >= gpus)
    assert profile.earliest_s(gpus, duration_s, from_s) == next(fits)
    changes = (at for at in range(from_s + 1, 100) if seconds[at] != seconds[at - 1])
    assert profile.next_s(from_s) == next(changes, from_s + 1)


@given(taken)
def test_what_is_given_back_leaves_no_steps(holds: list[tuple[int, int, int]]) -> None:
    profile = Profile(10)
    for held, start_s, length_s in holds:
        profile.take(held, start_s, start_s + length_s)
    for held, start_s, length_s in holds:
        profile.take(-held, start_s, start_s + length_s)
    assert profile.steps == 1


def test_the_past_is_forgotten_and_too_much_never_fits() -> None:
    profile = Profile(4)
    profile.take(4, 10, 20)
    profile.take(1, 30, 40)
    profile.forget(25)
    assert profile.steps == 3
    assert profile.free_at(35) == 3
    assert profile.earliest_s(4, 10, 25) == 40
    assert profile.earliest_s(5, 1, 25) is None


def test_the_shadow_is_when_enough_have_ended() -> None:
    ends = Ends()
    for end_s, job_id, gpus in ((50, 1, 2), (20, 2, 1), (90, 3, 4)):
        ends.add(end_s, job_id, gpus)
    assert ends.shadow(3, 1, 10) == (50, 1)
    assert ends.shadow(1, 1, 10) == (10, 0)
    ends.drop(20, 2, 1)
    assert ends.shadow(3, 1, 60) == (60, 0)  # an end that is overdue counts as now
    with pytest.raises(ValueError, match="never free"):
        ends.shadow(9, 1, 10)
    with pytest.raises(ValueError, match="no end"):
        ends.drop(20, 2, 1)
