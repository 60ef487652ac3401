"""Waiting is fair: by tenant and weight, by tokens, by priority within a tenant, and bounded."""

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.fair_queue import WEIGHTS, FairQueue

CLASSES = ("high", "normal", "low")
# Of each tenant its weight and its requests, each a class and tokens.
requests = st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(1, 500)), min_size=1, max_size=25)
tenants = st.lists(st.tuples(st.integers(1, 8), requests), min_size=2, max_size=4)
Item = tuple[str, str, int, int]  # tenant, class, number, tokens


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


def test_tenants_get_shares_by_their_weights() -> None:
    waiting, _ = queue()
    for i in range(300):
        waiting.put(f"paid-{i}", "paid", "normal", 100, 4)
        waiting.put(f"free-{i}", "free", "high", 100)
    served = Counter(str(waiting.pop()).split("-")[0] for _ in range(250))
    assert served == {"paid": 200, "free": 50}


def test_several_classes_get_a_tenant_no_more_than_one() -> None:
    waiting, _ = queue()
    for _ in range(300):
        for priority in CLASSES:
            waiting.put(f"many {priority}", "many", priority, 100)
        waiting.put("one normal", "one", "normal", 100)
    served = Counter(str(waiting.pop()) for _ in range(420))
    assert served == {"one normal": 210, "many high": 160, "many normal": 40, "many low": 10}


def test_a_tenants_own_requests_go_by_priority() -> None:
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


def test_who_left_costs_a_tenant_nothing() -> None:
    waiting, gone = queue()
    for i in range(20):
        waiting.put(f"left-{i}", "a", "normal", 1_000)
        waiting.put(f"a-{i}", "a", "normal", 100)
        waiting.put(f"b-{i}", "b", "normal", 100)
        gone.add(f"left-{i}")
    served = Counter(str(waiting.pop()).split("-")[0] for _ in range(20))
    assert served == {"a": 10, "b": 10}


def test_who_fills_the_queue_makes_room_for_others() -> None:
    waiting, _ = queue(4)
    for i in range(3):
        waiting.put(f"big-{i}", "big", "normal", 100)
    assert waiting.put("batch", "big", "batch", 1) is None
    assert waiting.put("small-0", "small", "normal", 100) == "batch"
    assert waiting.put("small-1", "small", "normal", 100) == "big-2"
    assert waiting.put("small-2", "small", "normal", 100) == "small-2", "it would be the last itself"
    assert waiting.put("urgent", "big", "high", 100) == "big-1", "its own tenant makes room, not another one"
    assert waiting.put("another batch", "small", "batch", 1) == "another batch"
    assert [waiting.pop() for _ in range(5)] == ["urgent", "small-0", "big-0", "small-1", None]


def test_what_found_no_place_does_not_count_against_those_who_come_later() -> None:
    waiting, _ = queue(3)
    for name, priority in (("low-0", "low"), ("normal-0", "normal"), ("normal-1", "normal")):
        waiting.put(name, "t", priority, 100)
    for _ in range(50):
        assert waiting.put("refused", "t", "low", 100) == "refused"
    assert waiting.pop() == "normal-0"
    assert waiting.put("low-1", "t", "low", 100) is None
    assert waiting.pop() == "normal-1"
    assert waiting.put("long", "t", "normal", 1_000) is None
    assert [waiting.pop() for _ in range(3)] == ["low-0", "low-1", "long"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(CLASSES), st.integers(0, 50)), max_size=60))
def test_each_class_of_a_tenant_keeps_its_order_and_nothing_is_lost(puts: list[tuple[str, str, int]]) -> None:
    waiting: FairQueue[Item] = FairQueue(100, lambda _: False)
    for number, (tenant, priority, tokens) in enumerate(puts):
        waiting.put((tenant, priority, number, tokens), tenant, priority, tokens)
    out: list[Item] = []
    while (item := waiting.pop()) is not None:
        out.append(item)
    assert sorted(out, key=lambda item: item[2]) == [(t, p, i, n) for i, (t, p, n) in enumerate(puts)]
    numbers: dict[tuple[str, str], list[int]] = defaultdict(list)
    for tenant, priority, number, _ in out:
        numbers[tenant, priority].append(number)
    assert all(own == sorted(own) for own in numbers.values())


def filled(given_: list[tuple[int, list[tuple[str, int]]]], *, alike: bool = False) -> FairQueue[Item]:
    """Return a queue in which every tenant waits with all its requests; ``alike``: of one class and size."""
    waiting: FairQueue[Item] = FairQueue(1_000, lambda _: False)
    for name, (weight, wanted) in enumerate(given_):
        for number, (priority, tokens) in enumerate(wanted):
            found = ("normal", 100) if alike else (priority, tokens)
            waiting.put((str(name), found[0], number, found[1]), str(name), found[0], found[1], weight)
    return waiting


@given(tenants)
def test_while_tenants_wait_their_tokens_by_weight_differ_by_two_requests_at_most(
    asked: list[tuple[int, list[tuple[str, int]]]],
) -> None:
    waiting = filled(asked)
    left = {str(i): len(wanted) for i, (_, wanted) in enumerate(asked)}
    largest = {
        str(i): max(tokens for _, tokens in wanted) / weight for i, (weight, wanted) in enumerate(asked)
    }
    got = dict.fromkeys(left, 0.0)
    while all(left.values()):
        item = waiting.pop()
        assert item is not None
        left[item[0]] -= 1
        got[item[0]] += item[3] / asked[int(item[0])][0]
        for one in got:
            for other in got:
                assert got[one] - got[other] <= largest[one] + largest[other] + 1e-6


@given(requests)
def test_while_classes_of_a_tenant_wait_their_tokens_by_share_differ_by_two_requests_at_most(
    asked: list[tuple[str, int]],
) -> None:
    waiting = filled([(1, asked)])
    left = Counter(priority for priority, _ in asked)
    largest = {name: max(t for p, t in asked if p == name) / WEIGHTS[name] for name in left}
    got = dict.fromkeys(left, 0.0)
    while all(left.values()):
        item = waiting.pop()
        assert item is not None
        left[item[1]] -= 1
        got[item[1]] += item[3] / WEIGHTS[item[1]]
        for one in got:
            for other in got:
                assert got[one] - got[other] <= largest[one] + largest[other] + 1e-6


@given(tenants)
def test_whose_turn_it_is_does_not_depend_on_classes(
    asked: list[tuple[int, list[tuple[str, int]]]],
) -> None:
    same_size = [(weight, [(priority, 100) for priority, _ in wanted]) for weight, wanted in asked]
    mixed, alike = filled(same_size), filled(same_size, alike=True)
    for _ in range(len(mixed)):
        one, other = mixed.pop(), alike.pop()
        assert one is not None
        assert other is not None
        assert one[0] == other[0]


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 300)), max_size=60))
def test_a_full_queue_drops_of_the_tenant_that_waits_for_most(
    items_max: int, puts: list[tuple[int, int]]
) -> None:
    waiting: FairQueue[Item] = FairQueue(items_max, lambda _: False)
    weights = (1, 2, 3, 1)
    for number, (tenant, tokens) in enumerate(puts):
        item = (str(tenant), "normal", number, tokens)
        before = Counter[str]()
        for name, _, _, size in (*waiting.items(), item):
            before[name] += size
        loser = waiting.put(item, str(tenant), "normal", tokens, weights[tenant])
        assert (loser is None) == (number < items_max)
        assert len(waiting) == min(number + 1, items_max)
        if loser is not None:
            most = {name: size / weights[int(name)] for name, size in before.items()}
            assert most[loser[0]] == max(most.values())
