"""Limits: no 60 seconds hold more than was allowed, whatever is asked in parallel and whenever it settles."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.limits import KeyLimits, Refused, Reservation, TokenQuota, Window, admit


def limits(requests: int | None = None, tokens: int | None = None) -> KeyLimits:
    found = KeyLimits()
    found.requests_per_minute, found.tokens_per_minute = requests, tokens
    return found


@given(st.lists(st.floats(0, 30), min_size=1, max_size=80), st.integers(1, 10))
def test_no_sixty_seconds_hold_more_requests_than_allowed(gaps: list[float], limit: int) -> None:
    own, now = limits(requests=limit), 1_000.0
    admitted: list[float] = []
    for gap in gaps:
        now += gap
        held = admit(own, TokenQuota(), now, 1, 1, stated=True)
        if isinstance(held, Reservation):
            admitted.append(now)
        else:
            later = admit(own, TokenQuota(), now + held.retry_after_seconds, 1, 1, stated=True)
            assert isinstance(later, Reservation), "after Retry-After there is room"
            admitted.append(now + held.retry_after_seconds)
            now += held.retry_after_seconds
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
    own, quota, now, limit = limits(tokens=100), TokenQuota(), 500.0, 100
    used: list[tuple[float, int]] = []
    open_: list[tuple[float, Reservation, int, float]] = []
    for gap, bound, actual, lasts in steps:
        now += gap
        for item in sorted(open_, key=lambda item: item[0]):
            if item[0] <= now:
                open_.remove(item)
                item[1].settle(item[0], item[2])
        held = admit(own, quota, now, 1, bound, stated=True)
        if isinstance(held, Reservation):
            spent = min(actual, bound + 1)
            used.append((now, spent))
            open_.append((now + lasts, held, spent, now))
    for start, _ in used:
        assert sum(tokens for at, tokens in used if start <= at <= start + 60) <= limit


def test_what_was_reserved_too_much_is_given_back() -> None:
    own, quota = limits(tokens=100), TokenQuota()
    held = admit(own, quota, 10.0, 10, 90, stated=True)
    assert isinstance(held, Reservation)
    assert isinstance(admit(own, quota, 11.0, 1, 1, stated=True), Refused)
    held.settle(12.0, 20)
    held.settle(12.0, 20)  # the second call changes nothing
    assert own.token_window.total == 20
    assert isinstance(admit(own, quota, 12.0, 10, 70, stated=True), Reservation)


def test_an_excess_counts_when_it_is_known() -> None:
    own, quota = limits(tokens=100), TokenQuota()
    held = admit(own, quota, 10.0, 10, 10, stated=True)
    assert isinstance(held, Reservation)
    held.settle(40.0, 90)
    assert own.token_window.total == 90
    own.token_window.advance(72)
    assert own.token_window.total == 70


def test_a_bound_that_nobody_stated_shrinks_to_the_limit() -> None:
    own, quota = limits(tokens=100), TokenQuota()
    assert isinstance(admit(own, quota, 10.0, 10, 1_024, stated=False), Reservation)
    assert own.token_window.total == 100
    refused = admit(limits(tokens=100), quota, 10.0, 10, 1_024, stated=True)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.asked) == ("oversize", 1_034)


def test_a_refusal_takes_nothing() -> None:
    own, quota = limits(requests=10, tokens=50), TokenQuota()
    for _ in range(5):
        assert isinstance(admit(own, quota, 10.0, 40, 40, stated=True), Refused)
    assert (own.request_window.total, own.token_window.total, quota.reserved) == (0, 0, 0)


def test_a_quota_is_reserved_used_and_acknowledged() -> None:
    quota = TokenQuota()
    assert quota.available is None
    quota.rebase(100)
    held = admit(KeyLimits(), quota, 1.0, 10, 50, stated=True)
    assert isinstance(held, Reservation)
    assert quota.available == 40
    refused = admit(KeyLimits(), quota, 1.0, 10, 50, stated=True)
    assert isinstance(refused, Refused)
    assert refused.reason == "quota"
    quota.recorded(30)
    held.settle(2.0, 30)
    assert quota.available == 70
    quota.rebase(100)  # a snapshot from before the delivery
    assert quota.available == 70
    quota.acknowledged(30)
    quota.rebase(70)
    assert quota.available == 70
    quota.rebase(0)
    assert isinstance(admit(KeyLimits(), quota, 3.0, 1, 1, stated=False), Refused)


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
    own = limits(requests=10, tokens=100)
    assert own.limited
    admit(own, TokenQuota(), 10.0, 10, 20, stated=True)
    lines = own.headers().decode()
    assert "x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\n" in lines
    assert "x-ratelimit-remaining-tokens: 70\r\nx-ratelimit-reset-tokens: 61s\r\n" in lines
    assert KeyLimits().headers() == b""
