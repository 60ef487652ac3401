"""One generation, stepped by hand: what is counted, what is shown, and why it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.drivers.ctranslate2.generation import Generation, Job

END = 2
WORDS = {10: "a", 11: "b", 12: "", 13: " stop", 14: " st"}


def generation(max_tokens: int = 5, stop: tuple[str, ...] = ()) -> Generation:
    job = Job([1], max_tokens, temperature=0, top_p=1, repetition_penalty=1, seed=None, stop=stop)
    return Generation("id", job, frozenset({END}), lambda token_id: WORDS[token_id])


def step(one: Generation, *tokens: int) -> list[bool]:
    return [one.step(SimpleNamespace(token_id=token)) for token in tokens]


def run(body: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with asyncio.timeout(5):
            return await body()

    return asyncio.run(main())


async def everything(one: Generation) -> list[tuple[str, int]]:
    return [(delta.text, delta.completion_tokens) async for batch in one.deltas() for delta in batch]


@pytest.mark.parametrize(
    ("tokens", "reason", "count", "text", "tail"),
    [
        ([10, 11, END], "stop", 2, "ab", ""),
        ([END], "stop", 0, "", ""),
        ([10] * 5, "length", 5, "aaaaa", ""),
        ([10, 12, 12, END], "stop", 3, "a", ""),  # tokens without text count
        ([10, 13], "stop", 2, "a ", ""),  # so do those of a stop string
        ([10, 14, END], "stop", 2, "a ", "st"),  # held back, and then no stop string after all
    ],
)
def test_what_is_counted_and_shown(tokens: list[int], reason: str, count: int, text: str, tail: str) -> None:
    async def body() -> None:
        one = generation(stop=("stop",))
        assert step(one, *tokens) == [False] * (len(tokens) - 1) + [True]
        one.finish()
        seen = await everything(one)
        assert (one.finish_reason, one.completion_tokens, one.tail) == (reason, count, tail)
        assert "".join(piece for piece, _ in seen) == text
        assert [number for _, number in seen] == list(range(1, count + 1))

    run(body)


def test_a_cancelled_generation_stops_at_the_next_token_and_counts_it() -> None:
    async def body() -> None:
        one = generation()
        assert step(one, 10) == [False]
        one.cancelled = True
        assert step(one, 11) == [True]
        one.finish()
        assert (one.finish_reason, one.completion_tokens) == ("cancelled", 2)
        assert await everything(one) == [("a", 1), ("b", 2)]

    run(body)


def test_a_real_end_is_not_called_cancelled() -> None:
    async def body() -> None:
        one = generation()
        one.cancelled = True
        step(one, END)
        one.finish()
        assert one.finish_reason == "stop"

    run(body)


def test_steps_of_another_thread_arrive_while_they_happen() -> None:
    async def body() -> None:
        one = generation(max_tokens=1_000)
        reader = asyncio.create_task(everything(one))
        await asyncio.get_running_loop().run_in_executor(None, lambda: step(one, *[10] * 1_000))
        one.finish()
        assert [number for _, number in await reader] == list(range(1, 1_001))

    run(body)


def test_a_failure_is_said_and_keeps_the_count() -> None:
    async def body() -> None:
        one = generation()
        step(one, 10)
        one.finish("The engine failed.")
        assert await everything(one) == [("a", 1)]
        assert (one.finish_reason, one.failure, one.completion_tokens) == ("error", "The engine failed.", 1)

    run(body)
