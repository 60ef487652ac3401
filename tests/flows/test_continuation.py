"""An engine process is killed in the middle of an answer: a real client sees one stream, the ledger each token once."""

from pathlib import Path

import openai
import pytest

from tests.support.gateway_peers import Engine, Gateway, configuration, ledger
from tests.support.waiting import until

TOKENS = 200


def inline(engine: Engine) -> str:
    return f'{{ url = "{engine.base}", cancel = true, continues = true }}'


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_a_killed_engine_costs_the_client_nothing(tmp_path: Path, *, chat: bool) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    engines = [Engine(tmp_path / "a"), Engine(tmp_path / "b")]
    gateway = Gateway(tmp_path, "--config", str(configuration(tmp_path, [inline(one) for one in engines])))
    asked = {
        "model": "test-model",
        "max_tokens": TOKENS,
        "stream": True,
        "extra_body": {"mock": {"itl_ms": 15}},
    }
    texts: list[str] = []
    try:
        with openai.OpenAI(base_url=gateway.url, api_key="sk-test", max_retries=0) as client:
            stream = (
                client.chat.completions.create(messages=[{"role": "user", "content": "go on"}], **asked)
                if chat
                else client.completions.create(prompt="go on", **asked)
            )
            names: set[str] = set()
            for chunk in stream:
                names.add(chunk.id)
                choice = chunk.choices[0]
                texts.append((choice.delta.content if chat else choice.text) or "")
                if len("".join(texts).split()) == 20:
                    asked_first = max(engines, key=lambda one: sum(n for _, n in one.counts().values()))
                    if asked_first.process.poll() is None and len(engines) == 2:
                        engines.remove(asked_first)
                        asked_first.kill()
        assert len("".join(texts).split()) == TOKENS
        assert len(names) == 1
        (record,) = until(lambda: list(ledger(tmp_path / "ledger").values()), "it is in the ledger")
        assert (record["completion_tokens"], record["ending"]) == (TOKENS, "length")
        (counts,) = engines[0].counts().values()
        seen_of_first = TOKENS - counts[1]
        assert 20 <= seen_of_first < TOKENS, "the second engine wrote what the first one had not"
    finally:
        gateway.stop()
        for engine in engines:
            engine.stop()
