"""Idle nodes are proposed for power-down, and no claim starts on a node that is not awake."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.base.errors import ConflictError
from penstock.scheduler.packing.sleep import NodePower, Sleep, SleepRules

RULES = SleepRules(idle_s=100, up_s=50, wake_s=30, ready_per_kind=1)


def test_idle_nodes_may_sleep_but_one_of_each_kind_stays_ready() -> None:
    sleep = Sleep(["A", "A", "A", "B"], RULES, 0)
    assert sleep.proposals(99) == []
    assert sleep.proposals(100) == [0, 1]
    assert sleep.use(0, 100) == 100
    assert sleep.proposals(100) == [1]
    sleep.idle(0, 150)
    assert sleep.proposals(200) == [1, 2]
    assert sleep.proposals(250) == [1, 2]


def test_a_claim_starts_when_its_node_is_awake() -> None:
    sleep = Sleep(["A", "A"], RULES, 0)
    sleep.power_down(0, 100)
    assert sleep.state(0, 120) is NodePower.OFF
    assert sleep.use(0, 200) == 230
    assert sleep.state(0, 229) is NodePower.WAKING
    assert sleep.use(0, 210) == 230  # a second claim waits for the same wake-up
    assert sleep.state(0, 230) is NodePower.ON
    assert sleep.use(0, 240) == 240


def test_a_node_that_just_woke_stays_up_for_a_while() -> None:
    sleep = Sleep(["A", "A"], SleepRules(idle_s=0, up_s=50, wake_s=30), 0)
    sleep.power_down(0, 100)
    sleep.use(0, 100)
    sleep.idle(0, 140)
    assert 0 not in sleep.proposals(150)
    assert sleep.proposals(200) == [1]  # the other one has been idle for longer


def test_only_what_was_proposed_may_be_turned_off() -> None:
    sleep = Sleep(["A", "A"], RULES, 0)
    with pytest.raises(ConflictError):
        sleep.power_down(0, 50)
    sleep.power_down(0, 100)
    with pytest.raises(ConflictError):
        sleep.power_down(1, 100)
    with pytest.raises(ConflictError):
        sleep.power_down(0, 500)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["use", "idle", "down"]), st.integers(0, 4), st.integers(0, 90)),
        max_size=60,
    )
)
def test_wake_time_is_honoured_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    sleep = Sleep(["A", "A", "A", "B", "B"], RULES, 0)
    now, busy, woken_at = 0, set[int](), dict[int, int]()
    for what, node, later in steps:
        now += later
        if what == "use":
            off = sleep.state(node, now) is NodePower.OFF
            starts = sleep.use(node, now)
            if off:
                woken_at[node] = now
            assert starts == max(now, woken_at.get(node, -100) + 30)
            busy.add(node)
        elif what == "idle":
            busy.discard(node)
            sleep.idle(node, now)
        else:
            for one in sleep.proposals(now):
                assert one not in busy
                sleep.power_down(one, now)
            for kind in ({0, 1, 2}, {3, 4}):
                idle = kind - busy
                ready = [one for one in idle if sleep.state(one, now) is not NodePower.OFF]
                assert not idle or ready or all(one in woken_at for one in idle) or busy & kind
        assert all(sleep.state(one, now) is not NodePower.OFF for one in busy)
