"""Limits: nothing holds more than was allowed, whatever is asked in parallel and whenever it settles."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.limit_table import LimitTable
from penstock.gateway.limits import Instant, Limits, Price, Refused, Reservation, Scope, Spent, Window, admit

TABLE = LimitTable.open(None, 4_096, 0, 0)


def scope(kind: str = "key", **limits: int) -> Scope:
    """Return a scope with counters of its own."""
    table = LimitTable.open(None, 8, 0, 0)
    found = Scope(kind, table, "one")
    found.take(Limits(**limits))
    return found


def at(second: float, day: int = 1, month: int = 1) -> Instant:
    return Instant(int(second), day, month, 500, 9_000)


def ask(
    scopes: Scope | tuple[Scope, ...], second: float, prompt: int, bound: int, **more: Any
) -> Reservation | Refused:
    scopes = scopes if isinstance(scopes, tuple) else (scopes,)
    when = more.pop("when", at(second))
    return admit(TABLE, scopes, when, prompt, bound, **{"stated": True, **more})


def held(*arguments: Any, **more: Any) -> Reservation:
    found = ask(*arguments, **more)
    assert isinstance(found, Reservation)
    return found


def refused(*arguments: Any, **more: Any) -> Refused:
    found = ask(*arguments, **more)
    assert isinstance(found, Refused)
    return found


@given(st.lists(st.floats(0, 30), min_size=1, max_size=80), st.integers(1, 10))
def test_no_sixty_seconds_hold_more_requests_than_allowed(gaps: list[float], limit: int) -> None:
    own, now = scope(requests_per_minute=limit), 1_000.0
    admitted: list[float] = []
    for gap in gaps:
        now += gap
        found = ask(own, now, 1, 1)
        if isinstance(found, Refused):
            now += found.retry_after_seconds
            held(own, now, 1, 1)  # after Retry-After there is room
        admitted.append(now)
    for start in admitted:
        assert sum(start <= at <= start + 60 for at in admitted) <= limit


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.integers(1, 40), st.integers(0, 40), st.floats(0, 100)), max_size=60
    )
)
def test_settled_tokens_never_exceed_the_limit_in_a_minute(
    steps: list[tuple[float, int, int, float]],
) -> None:
    own, now, limit = scope(tokens_per_minute=100), 500.0, 100
    used: list[tuple[float, int]] = []
    open_: list[tuple[float, Reservation, int]] = []
    for gap, bound, actual, lasts in steps:
        now += gap
        for item in sorted(open_, key=lambda item: item[0]):
            if item[0] <= now:
                open_.remove(item)
                item[1].settle(at(item[0]), item[2], 0)
        found = ask(own, now, 1, bound)
        if isinstance(found, Reservation):
            spent = min(actual, bound + 1)
            used.append((now, spent))
            open_.append((now + lasts, found, spent))
    for start, _ in used:
        assert sum(tokens for when, tokens in used if start <= when <= start + 60) <= limit


def test_what_was_reserved_too_much_is_given_back() -> None:
    own = scope(tokens_per_minute=100)
    first = held(own, 10, 10, 90)
    refused(own, 11, 1, 1)
    first.settle(at(12), 5, 15)
    first.settle(at(12), 5, 15)  # the second call changes nothing
    assert own.tokens.total == 20
    held(own, 12, 10, 70)


def test_an_excess_counts_when_it_is_known() -> None:
    own = scope(tokens_per_minute=100)
    held(own, 10, 10, 10).settle(at(40), 10, 80)
    assert own.tokens.total == 90
    own.tokens.advance(72)
    assert own.tokens.total == 70


def test_a_bound_that_nobody_stated_shrinks_to_the_limit() -> None:
    own = scope(tokens_per_minute=100)
    held(own, 10, 10, 1_024, stated=False)
    assert own.tokens.total == 100
    found = refused(scope(tokens_per_minute=100), 10, 10, 1_024)
    assert (found.reason, found.asked) == ("oversize", 1_034)


def test_a_refusal_takes_nothing_from_any_scope() -> None:
    own, tenant = scope(requests_per_minute=10, tokens_per_minute=500), scope("tenant", tokens_per_day=50)
    for _ in range(5):
        found = refused((own, tenant), 10, 40, 40)
        assert (found.reason, found.scope, found.limit) == ("day", "tenant", 50)
    assert (own.requests.total, own.tokens.total, tenant.room(at(10), Price())) == (0, 0, 50)


def test_the_narrowest_scope_decides() -> None:
    key, project = scope(requests_per_minute=9), scope("project", requests_per_minute=2)
    model = scope("model", requests_per_minute=5)
    for _ in range(2):
        held((key, project, model), 10, 1, 1)
    assert refused((key, project, model), 10, 1, 1).scope == "project"
    assert (key.requests.total, model.requests.total) == (2, 2)


def test_tokens_of_a_day_are_reserved_settled_and_forgotten_at_midnight() -> None:
    own = scope(tokens_per_day=100)
    first = held(own, 10, 10, 50)
    found = refused(own, 10, 10, 50)
    assert (found.reason, found.limit, found.retry_after_seconds) == ("day", 40, 500)
    first.settle(at(20), 10, 10)
    assert own.spent(at(20)) == (20, 0)
    held(own, 20, 10, 70).settle(at(20), 10, 70)
    refused(own, 30, 1, 1)
    held(own, 40, 10, 90, when=at(40, day=2))
    assert own.spent(at(40, day=2)) == (0, 0)


def test_money_of_a_month_is_reserved_at_the_dearest_and_settled_to_the_micro_euro() -> None:
    own, price = scope(microeur_per_month=1_000), Price(1_000_000, 3_000_000)  # 1 and 3 micro-euro a token
    first = held(own, 10, 100, 200, price=price)  # up to 700
    found = refused(own, 10, 100, 100, price=price)
    assert (found.reason, found.limit, found.asked, found.retry_after_seconds) == ("month", 300, 400, 9_000)
    first.settle(at(11), 90, 20)
    assert own.spent(at(11)) == (0, 150)
    held(own, 12, 250, 200, price=price)
    assert Price(1, 1).of(1, 0) == 1, "a part of a micro-euro is a whole one"
    shrunk = held(scope(microeur_per_month=300), 12, 10, 5_000, price=price, stated=False)
    assert shrunk.tokens == 100


def test_a_quota_is_reserved_used_and_acknowledged() -> None:
    own = scope()
    assert own.available is None
    own.take(Limits(tokens_left=100))
    first = held(own, 1, 10, 50)
    assert own.available == 40
    assert refused(own, 1, 10, 50).reason == "quota"
    own.recorded(30)
    first.settle(at(2), 10, 20)
    assert own.available == 70
    own.take(Limits(tokens_left=100))  # a snapshot from before the delivery
    assert own.available == 70
    own.acknowledged(30)
    own.take(Limits(tokens_left=70))
    assert own.available == 70
    own.take(Limits(tokens_left=0))
    refused(own, 3, 1, 1, stated=False)


def test_a_window_forgets_after_a_long_silence() -> None:
    window = Window()
    window.advance(5)
    window.add(7)
    window.advance(65)
    assert window.total == 7
    window.advance(66)
    assert window.total == 0
    window.add(3)
    window.advance(10_000)
    assert window.total == 0
    window.add(5, 5)  # that second is long gone
    assert window.total == 0


def test_a_process_whose_clock_is_a_second_behind_takes_nothing_back() -> None:
    window = Window()
    window.advance(100)
    window.add(7)
    window.advance(99)
    assert window.total == 7
    window.add(1, 99)
    window.advance(160)
    assert window.total == 7
    window.advance(161)
    assert window.total == 0


def test_the_wait_is_as_long_as_it_takes() -> None:
    window = Window()
    for second, amount in ((100, 5), (110, 3)):
        window.advance(second)
        window.add(amount)
    assert window.seconds_until(3) == 51
    assert window.seconds_until(2) == 61
    window.advance(161)
    assert window.total == 3


def test_headers_tell_limit_remaining_and_reset() -> None:
    own = scope(requests_per_minute=10, tokens_per_minute=100)
    held(own, 10, 10, 20)
    lines = own.headers().decode()
    assert "x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\n" in lines
    assert "x-ratelimit-remaining-tokens: 70\r\nx-ratelimit-reset-tokens: 61s\r\n" in lines
    assert scope().headers() == b""


@pytest.mark.parametrize("limits", [{}, {"tokens_left": 0}, {"requests_per_minute": 0}])
def test_any_limit_counts_as_one(limits: dict[str, int]) -> None:
    assert Limits(**limits).any == bool(limits)


def test_what_the_control_plane_knows_is_counted_at_least() -> None:
    scope = Scope("key", LimitTable.open(None, 8, 10, 20), "key_1")
    scope.limits = Limits(tokens_per_day=100, microeur_per_month=100)
    at = Instant(second=5, day=10, month=20)
    scope.charge(at, 30, 40)
    scope.learn(Spent(day=10, tokens=20, month=20, microeur=70))
    assert scope.spent(at) == (30, 70), "the larger of the two counts"
    scope.charge(at, 5, 5)
    assert scope.spent(at) == (35, 75), "and is counted on from"
    scope.learn(Spent(day=9, tokens=90, month=19, microeur=90))
    assert scope.spent(at) == (35, 75), "yesterday is over"
    scope.learn(Spent(day=11, tokens=7, month=20, microeur=0))
    assert scope.spent(Instant(second=9, day=11, month=20)) == (7, 75)
