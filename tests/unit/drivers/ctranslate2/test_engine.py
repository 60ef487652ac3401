"""The engine on the real library, without HTTP: slots, queue, failures."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from penstock.drivers.ctranslate2.engine import Engine, QueueFullError, choose_device
from penstock.drivers.ctranslate2.generation import Generation
from penstock.drivers.ctranslate2.wire import ApiError, Request, Sampling


def request(prompt: str = "a", *, chat: bool = False, seed: int | None = None, limit: int = 8) -> Request:
    sampling = Sampling(max_tokens=limit, temperature=1.0 if seed else 0.0, top_p=1.0, stop=(), seed=seed)
    return Request("m", chat, prompt, sampling, stream=False, include_usage=False, continuous_usage=False)


def run(
    model: Path, body: Callable[[Engine], Awaitable[None]], *, parallel: int = 1, queue_max: int = 2
) -> None:
    async def main() -> None:
        engine = Engine(model, device="cpu", threads=1, parallel=parallel, queue_max=queue_max)
        engine.load()
        try:
            async with asyncio.timeout(20):
                await body(engine)
        finally:
            engine.close()

    asyncio.run(main())


async def end(generation: Generation) -> None:
    async for _ in generation.deltas():
        pass


def test_slots_are_filled_in_order_and_the_queue_is_bounded(endless_model: Path) -> None:
    async def body(engine: Engine) -> None:
        made = [engine.prepare(request(), f"r{number}") for number in range(4)]
        for generation in made[:3]:
            engine.start(generation)
        assert (engine.running, engine.waiting) == (1, 2)
        with pytest.raises(QueueFullError):
            engine.start(made[3])
        assert (engine.running, engine.waiting, engine.counters.requests) == (1, 2, 3)
        for generation in made[:3]:
            await end(generation)
            assert (generation.finish_reason, generation.completion_tokens) == ("length", 8)
        assert (engine.running, engine.waiting) == (0, 0)
        assert (engine.counters.completion_tokens, engine.counters.prompt_tokens) == (24, 3)

    run(endless_model, body)


def test_a_waiting_request_is_cancelled_for_nothing(endless_model: Path) -> None:
    async def body(engine: Engine) -> None:
        first, second = (engine.prepare(request(limit=500), "r") for _ in range(2))
        engine.start(first)
        engine.start(second)
        engine.cancel(second)
        assert (second.finish_reason, second.prompt_tokens, second.completion_tokens) == ("cancelled", 0, 0)
        engine.cancel_all()
        await end(first)
        assert (first.finish_reason, first.prompt_tokens) == ("cancelled", 1)
        assert first.completion_tokens < 500

    run(endless_model, body)


def test_a_failure_inside_the_engine_frees_the_slot_and_is_counted() -> None:
    async def body(engine: Engine) -> None:
        def broken(token_id: int) -> str:
            raise ValueError(token_id)

        failing = engine.prepare(request(), "r")
        failing.detokenize = broken
        after = engine.prepare(request(), "s")
        engine.start(failing)
        engine.start(after)
        await end(failing)
        assert (failing.finish_reason, engine.counters.failures) == ("error", 1)
        await end(after)
        assert after.finish_reason in {"stop", "length"}

    run(demo_model_dir(), body)


def test_a_prompt_that_cannot_be_fed_is_refused_by_name() -> None:
    async def body(engine: Engine) -> None:
        with pytest.raises(ApiError) as caught:
            engine.prepare(request("word " * 2_000), "r")
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
        with pytest.raises(ApiError) as caught:
            engine.prepare(request(""), "r")
        assert caught.value.param == "prompt"

    run(demo_model_dir(), body)


def test_a_seed_is_refused_where_the_weights_are_too_large_to_load_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.drivers.ctranslate2.engine.SEEDED_MODEL_BYTES_MAX", 1_000)

    async def body(engine: Engine) -> None:
        with pytest.raises(ApiError) as caught:
            engine.prepare(request(seed=3), "r")
        assert caught.value.param == "seed"

    run(demo_model_dir(), body)


def test_a_stop_token_or_template_that_does_not_exist_is_an_error_at_load(model_copy: Path) -> None:
    text = (model_copy / "manifest.json").read_text()
    for broken in (text.replace('"<|im_end|>"', '"<|nowhere|>"'), text.replace('"chatml"', '"other"')):
        (model_copy / "manifest.json").write_text(broken)
        engine = Engine(model_copy, device="cpu", threads=1, parallel=1, queue_max=1)
        with pytest.raises(ValueError, match=r"nowhere|other"):
            engine.load()


def test_the_device_is_the_processor_where_there_is_no_other() -> None:
    assert choose_device("cuda") == "cuda"  # a wish is not second-guessed: loading says if it cannot be
    assert choose_device("auto") in {"cpu", "cuda"}
