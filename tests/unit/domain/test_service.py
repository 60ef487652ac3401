"""The table of a service's states: it ends, it can be left, every state is reached and has its sentence."""

import pytest

from penstock.domain.service import (
    PHASES,
    REASON_SENTENCES,
    STATE_SENTENCES,
    TERMINAL,
    TRANSITIONS,
    Reason,
    ServiceState,
    may_move,
)
from penstock.store.schema import service


def reachable(start: ServiceState) -> set[ServiceState]:
    found, edge = {start}, [start]
    while edge:
        source = edge.pop()
        for target in {b for a, b in TRANSITIONS if a == source} - found:
            found.add(target)
            edge.append(target)
    return found


def test_what_has_ended_stays_ended() -> None:
    assert {a for a, _ in TRANSITIONS}.isdisjoint(TERMINAL)
    assert {state for state in ServiceState if reachable(state) == {state}} == set(TERMINAL)


def test_an_order_can_reach_every_state_and_from_every_state_be_released() -> None:
    assert reachable(ServiceState.QUEUED) == set(ServiceState)
    for state in set(ServiceState) - TERMINAL:
        assert ServiceState.RELEASED in reachable(state), state
        assert state == ServiceState.RELEASING or may_move(state, ServiceState.RELEASING), state


def test_what_holds_devices_never_ends_without_giving_them_back() -> None:
    last_steps = {a for a, b in TRANSITIONS if b in TERMINAL}
    assert last_steps == {ServiceState.RELEASING, ServiceState.QUEUED}
    assert not may_move(ServiceState.QUEUED, ServiceState.RELEASED)


@pytest.mark.parametrize("state", ServiceState)
def test_staying_put_is_allowed_and_coming_back_to_life_is_not(state: ServiceState) -> None:
    assert may_move(state, state)
    assert not may_move(ServiceState.RELEASED, state) or state == ServiceState.RELEASED
    assert not may_move(ServiceState.FAILED, state) or state == ServiceState.FAILED


def test_running_is_reached_only_through_a_start_from_a_loss_or_from_sleep() -> None:
    sources = {a for a, b in TRANSITIONS if b == ServiceState.RUNNING}
    assert sources == {ServiceState.STARTING, ServiceState.DEGRADED, ServiceState.ASLEEP}


def test_every_state_and_every_reason_has_a_sentence_of_its_own() -> None:
    assert set(STATE_SENTENCES) == set(ServiceState)
    assert set(REASON_SENTENCES) == set(Reason)
    said = [
        *STATE_SENTENCES.values(),
        *(text for reason, text in REASON_SENTENCES.items() if reason != "none"),
    ]
    assert all(text.strip() for text in said)
    assert len(set(said)) == len(said)


def test_every_phase_is_stamped_in_a_column_of_the_table() -> None:
    assert {phase.column for phase in PHASES} <= set(service.c.keys())
