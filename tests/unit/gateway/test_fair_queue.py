"""Waiting is fair: by tenant, by tokens, by priority, and bounded."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.fair_queue import FairQueue


def queue(items_max: int = 1_000) -> tuple[FairQueue[str], set[str]]:
    gone: set[str] = set()
    return FairQueue(items_max, lambda item: item in gone), gone


def test_one_request_does_not_wait_behind_a_thousand_of_another_tenant() -> None:
    waiting, _ = queue()
    for i in range(900):
        waiting.put(f"big-{i}", "big", "normal", 100)
    waiting.pop()
    waiting.put("small", "small", "normal", 100)
    assert "small" in [waiting.pop() for _ in range(3)]


def test_a_tenant_with_short_requests_gets_more_of_them() -> None:
    waiting, _ = queue()
    for i in range(300):
        waiting.put(f"long-{i}", "long", "normal", 300)
        waiting.put(f"short-{i}", "short", "normal", 100)
    served = Counter(str(waiting.pop()).split("-")[0] for _ in range(200))
    assert served == {"short": 150, "long": 50}


def test_priorities_are_shares_and_nobody_starves() -> None:
    waiting, _ = queue()
    for i in range(300):
        for priority in ("high", "normal", "low"):
            waiting.put(f"{priority}-{i}", priority, priority, 100)
    served = Counter(str(waiting.pop()).split("-")[0] for _ in range(210))
    assert served == {"high": 160, "normal": 40, "low": 10}


def test_a_tenants_own_requests_go_by_priority_too() -> None:
    waiting, _ = queue()
    for i in range(200):
        waiting.put(f"low-{i}", "one", "low", 100)
    waiting.put("normal", "one", "normal", 100)
    waiting.put("high", "one", "high", 100)
    assert [waiting.pop() for _ in range(3)] == ["high", "normal", "low-0"]


def test_those_who_left_are_passed_over_and_make_room() -> None:
    waiting, gone = queue(2)
    assert waiting.put("a", "t", "normal", 1) is None
    assert waiting.put("b", "t", "normal", 1) is None
    assert waiting.put("c", "t", "normal", 1) == "c"
    gone.add("a")
    assert waiting.put("c", "t", "normal", 1) is None
    assert [waiting.pop(), waiting.pop(), waiting.pop()] == ["b", "c", None]


def test_who_fills_the_queue_makes_room_for_others() -> None:
    waiting, _ = queue(4)
    for i in range(3):
        waiting.put(f"big-{i}", "big", "normal", 100)
    assert waiting.put("batch", "big", "batch", 1) is None
    assert waiting.put("small-0", "small", "normal", 100) == "batch"
    assert waiting.put("small-1", "small", "normal", 100) == "big-2"
    assert waiting.put("small-2", "small", "normal", 100) == "small-2", "it would be the last itself"
    assert waiting.put("urgent", "big", "high", 100) == "small-1"
    assert waiting.put("another batch", "small", "batch", 1) == "another batch"
    assert [waiting.pop() for _ in range(5)] == ["urgent", "big-0", "small-0", "big-1", None]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=60))
def test_each_tenant_keeps_its_order_and_nothing_is_lost(puts: list[tuple[str, int]]) -> None:
    waiting: FairQueue[tuple[str, int]] = FairQueue(100, lambda _: False)
    for number, (tenant, tokens) in enumerate(puts):
        waiting.put((tenant, number), tenant, "normal", tokens)
    out: list[tuple[str, int]] = []
    while (item := waiting.pop()) is not None:
        out.append(item)
    assert sorted(out, key=lambda item: item[1]) == [(t, i) for i, (t, _) in enumerate(puts)]
    for tenant in "abc":
        own = [number for name, number in out if name == tenant]
        assert own == sorted(own)
