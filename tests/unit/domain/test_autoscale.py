"""How many replicas a policy wants: rule by rule, and what holds for every load."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.domain.autoscale import Load, Memory, Policy, Scaling, Why, replicas_wanted, scale, spec_for

NOW = datetime(2026, 11, 1, tzinfo=UTC)
POLICY = Policy(replicas_min=1, replicas_max=8, tokens_target=1_000)
QUIET = Memory(NOW - timedelta(hours=1), NOW - timedelta(hours=1))
BUSY = Memory(NOW, NOW)


def decided(load: Load, memory: Memory = BUSY, policy: Policy = POLICY, **over: Any) -> Scaling:
    facts = {"wanted": 1, "ready": 1, "now": NOW} | over
    return scale(policy, load, memory, **facts)


def test_a_spec_without_bounds_has_no_policy_and_one_bound_implies_the_other() -> None:
    assert Policy.of({"model": "m", "replicas": 3}) is None
    assert Policy.of({"replicas": 1, "replicas_min": 0}) == Policy(replicas_min=0, replicas_max=1)
    assert Policy.of({"replicas": 1, "replicas_max": 5}) == Policy(replicas_min=1, replicas_max=5)
    assert Policy(replicas_min=3, replicas_max=2).broken == "replicas_min (3) is above replicas_max (2)"
    assert Policy(replicas_min=0, replicas_max=4).first({"replicas": 9}) == 4


def test_what_a_service_wants_is_the_decision_else_its_order() -> None:
    spec = {"replicas": 2, "replicas_min": 0, "replicas_max": 4, "idle_seconds": 5}
    assert replicas_wanted({"spec": spec, "replicas_wanted": 0}) == 0
    assert replicas_wanted({"spec": spec, "replicas_wanted": None}) == 2
    assert replicas_wanted({"spec": {"replicas": 3}, "replicas_wanted": None}) == 3
    assert spec_for({"spec": {"model": "m", **spec}}, 3) == {"model": "m", "replicas": 3}


def test_from_zero_it_is_one_replica_however_many_wait() -> None:
    policy = Policy(replicas_min=0, replicas_max=8, tokens_target=10)
    found = decided(Load(waiting=500, tokens=100_000), QUIET, policy, wanted=0, ready=0)
    assert (found.replicas, found.why) == (1, Why.WAKE)
    again = decided(Load(waiting=600, tokens=100_000), found.memory, policy, wanted=1, ready=0)
    assert (again.replicas, again.why) == (1, Why.STEADY), "what starts is waited for"


def test_it_sleeps_when_nobody_asked_for_the_idle_time_and_not_before() -> None:
    policy = Policy(replicas_min=0, replicas_max=2, idle_seconds=60)
    awake = decided(Load(), Memory(NOW - timedelta(seconds=59), NOW), policy)
    assert (awake.replicas, awake.due_at) == (1, NOW + timedelta(seconds=1))
    asleep = decided(Load(), Memory(NOW - timedelta(seconds=60), NOW), policy, wanted=2, ready=2)
    assert (asleep.replicas, asleep.why, asleep.due_at) == (0, Why.IDLE, None)
    ended_since = decided(Load(requests=1), Memory(NOW - timedelta(seconds=90), NOW), policy)
    assert ended_since.replicas == 1, "a request between two looks counts"


@pytest.mark.parametrize(
    ("load", "replicas", "why"),
    [
        pytest.param(Load(in_flight=3, tokens=1_500), 2, Why.TOKENS, id="tokens"),
        pytest.param(Load(in_flight=3, tokens=9_000), 2, Why.TOKENS, id="at most twice as many"),
        pytest.param(Load(in_flight=9, waiting=5), 2, Why.QUEUE, id="queue"),
        pytest.param(Load(in_flight=9, waiting=4), 1, Why.STEADY, id="queue within its target"),
        pytest.param(Load(in_flight=1, ttft_us=501_000), 2, Why.TTFT, id="ttft"),
        pytest.param(Load(in_flight=1, ttft_us=500_000), 1, Why.STEADY, id="ttft within its target"),
        pytest.param(Load(ttft_us=900_000), 1, Why.STEADY, id="an old ttft of nobody"),
    ],
)
def test_each_signal_starts_replicas(load: Load, replicas: int, why: Why) -> None:
    policy = Policy(replicas_min=1, replicas_max=8, tokens_target=1_000, ttft_target_ms=500)
    found = decided(load, policy=policy)
    assert (found.replicas, found.why) == (replicas, why)


def test_steps_up_rest_in_between_and_wait_for_what_starts() -> None:
    load = Load(in_flight=4, tokens=8_000)
    first = decided(load)
    assert first.replicas == 2
    assert decided(load, first.memory, wanted=2, ready=1, now=NOW + timedelta(hours=1)).replicas == 2
    assert decided(load, first.memory, wanted=2, ready=2, now=NOW + timedelta(seconds=14)).replicas == 2
    assert decided(load, first.memory, wanted=2, ready=2, now=NOW + timedelta(seconds=15)).replicas == 4


def test_a_step_down_waits_until_fewer_would_have_done_and_is_one_replica() -> None:
    load = Load(in_flight=1, tokens=10)
    recent = Memory(NOW, NOW - timedelta(seconds=119))
    assert decided(load, recent, wanted=5, ready=5).replicas == 5
    found = decided(load, Memory(NOW, NOW - timedelta(seconds=120)), wanted=5, ready=5)
    assert (found.replicas, found.why) == (4, Why.LESS)
    assert decided(load, found.memory, wanted=4, ready=4).replicas == 4, "and rests after it"


def test_new_bounds_hold_at_once() -> None:
    up = decided(Load(), QUIET, Policy(replicas_min=3, replicas_max=4))
    assert (up.replicas, up.why) == (3, Why.BOUNDS)
    assert (
        decided(Load(in_flight=1, tokens=9_000), wanted=6, ready=6, policy=Policy(replicas_max=2)).replicas
        == 2
    )


LOADS = st.builds(
    Load,
    waiting=st.integers(0, 2_000),
    in_flight=st.integers(0, 2_000),
    tokens=st.integers(0, 10_000_000),
    ttft_us=st.none() | st.integers(0, 10**9),
    requests=st.integers(0, 5),
    demanded=st.booleans(),
)


@given(
    load=LOADS,
    least=st.integers(0, 4),
    more=st.integers(0, 8),
    wanted=st.integers(0, 16),
    ready=st.integers(0, 16),
    busy=st.integers(0, 10_000),
    needed=st.integers(0, 10_000),
)
def test_the_answer_is_within_the_bounds_and_stands_when_asked_again(
    load: Load, least: int, more: int, wanted: int, ready: int, busy: int, needed: int
) -> None:
    policy = Policy(replicas_min=least, replicas_max=max(1, least + more), ttft_target_ms=100)
    memory = Memory(NOW - timedelta(seconds=busy), NOW - timedelta(seconds=needed))
    found = scale(policy, load, memory, wanted=wanted, ready=min(ready, wanted), now=NOW)
    assert policy.replicas_min <= found.replicas <= policy.replicas_max
    if load.any:
        assert found.replicas >= 1
        assert found.due_at is not None
    ready_now = min(ready, wanted, found.replicas)
    again = scale(policy, load, found.memory, wanted=found.replicas, ready=ready_now, now=NOW)
    if ready_now < found.replicas or found.replicas > wanted:
        assert again.replicas <= found.replicas, "one look after the other starts nothing twice"
