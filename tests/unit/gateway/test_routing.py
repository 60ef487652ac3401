"""Which engine is taken: the one that begins soonest, as far as a gateway can know."""

from dataclasses import dataclass

import pytest

from penstock.gateway.routing import OPEN_AFTER_FAILURES, Router, answered, failed, note_beside


@dataclass(eq=False)
class Engine:
    name: str
    slots: int = 100
    in_flight: int = 0
    pending_tokens: int = 0
    down_until: float = 0.0
    failures: int = 0


def router(*engines: Engine) -> Router[Engine, str]:
    found: Router[Engine, str] = Router(blocks_max=1_000, queue_max=10, gone=lambda _: False)
    found.update(engines)
    return found


def take(
    found: Router[Engine, str], *, tokens: int = 0, blocks: list[int] | None = None, session: str = ""
) -> str:
    """Choose and send; return the engine's name."""
    blocks = blocks or []
    engine = found.choose(0.0, tokens=tokens, blocks=blocks, session=session)
    assert engine is not None
    engine.in_flight += 1
    engine.pending_tokens += tokens - found.saved_tokens(engine, blocks)
    found.sent(engine, blocks, session)
    return engine.name


def test_equal_engines_take_turns() -> None:
    found = router(Engine("a"), Engine("b"), Engine("c"))
    assert sorted(take(found) for _ in range(6)) == ["a", "a", "b", "b", "c", "c"]


def test_the_one_with_less_to_read_is_taken_though_it_has_more_requests() -> None:
    found = router(Engine("long", in_flight=1, pending_tokens=30_000), Engine("short", in_flight=3))
    assert take(found, tokens=100) == "short"


def test_a_beginning_is_worth_what_it_saves_and_no_more() -> None:
    engines = Engine("a"), Engine("b")
    found = router(*engines)
    blocks = list(range(20))
    first = take(found, tokens=5_120, blocks=blocks)
    for engine in engines:
        engine.pending_tokens = 0
    assert take(found, tokens=5_120, blocks=blocks) == first
    for engine in engines:
        engine.pending_tokens = 20_000 if engine.name == first else 0
    assert take(found, tokens=5_120, blocks=blocks) != first


def test_a_session_stays_until_that_is_much_dearer_or_impossible() -> None:
    a, b = Engine("a"), Engine("b")
    found = router(a, b)
    home = take(found, tokens=10, session="s")
    at_home, other = (a, b) if home == "a" else (b, a)
    assert [take(found, tokens=10, session="s") for _ in range(5)] == [home] * 5
    at_home.pending_tokens = 50_000
    assert take(found, tokens=10, session="s") == other.name
    at_home.pending_tokens, other.down_until = 0, 9.0
    assert take(found, tokens=10, session="s") == home, "it had moved there, but that engine is down"
    at_home.in_flight, other.in_flight = at_home.slots, other.slots
    assert found.choose(0.0, session="s") is None


def test_a_failed_engine_is_the_last_choice_for_longer_each_time() -> None:
    a, b = Engine("a"), Engine("b", pending_tokens=10_000)
    found = router(a, b)
    failed(a, 0.0, 1.0, 5.0)
    assert a.down_until == 1.0
    assert take(found) == "b"
    failed(a, 0.0, 1.0, 5.0)
    assert a.down_until == 2.0
    for _ in range(40):
        failed(a, 0.0, 1.0, 5.0)
    assert a.down_until == 5.0
    answered(a)
    assert take(found) == "a"


def test_one_that_goes_on_failing_is_tried_by_one_at_a_time() -> None:
    a, b = Engine("a"), Engine("b", pending_tokens=10_000)
    found = router(a, b)
    a.failures = OPEN_AFTER_FAILURES
    assert [take(found), take(found), take(found)] == ["a", "b", "b"]


@pytest.mark.parametrize("several", [True, False])
def test_full_or_tried_engines_are_not_taken(*, several: bool) -> None:
    engines = [Engine("a", slots=1, in_flight=1), *([Engine("b", slots=2, in_flight=1)] if several else [])]
    found = router(*engines)
    assert (found.choose(0.0) is None) != several
    assert found.choose(0.0, tried=engines) is None
    assert router().choose(0.0) is None


def test_what_is_known_of_engines_outlives_a_change_of_the_others() -> None:
    a, b, c = Engine("a"), Engine("b"), Engine("c")
    found = router(a, b)
    found.sent(b, [1, 2], "s")
    found.update((b, c))
    assert found.saved_tokens(b, [1, 2]) > 0
    assert found.saved_tokens(c, [1, 2]) == 0, "the newcomer has not what the one in whose place it is had"
    found.sent(a, [1], "s")  # one that is gone is not remembered
    assert take(found, session="s") == "b"
    found.update((c,))
    assert found.saved_tokens(b, [1, 2]) == 0


def test_lines_that_share_some_engines_take_turns() -> None:
    shared, own, far = Engine("shared", slots=1, in_flight=1), Engine("own", slots=1), Engine("far")
    flood, small, apart = router(shared, own), router(shared), router(far)
    note_beside([flood, small, apart])
    assert (flood.beside, small.beside, apart.beside) == ((small,), (flood,), ())
    for number in range(4):
        flood.queue.put(f"flood-{number}", "flood", "normal", 10)
    small.queue.put("small-0", "small", "normal", 10)
    small.queue.put("small-1", "small", "normal", 10)
    apart.queue.put("apart", "apart", "normal", 10)
    assert flood.next_waiting() == "flood-0", "only its own engine has room"
    own.in_flight = 1
    assert flood.next_waiting() is None
    shared.in_flight = 0
    assert [flood.next_waiting() for _ in range(6)] == [
        "small-0",
        "flood-1",
        "small-1",
        "flood-2",
        "flood-3",
        None,
    ]
