"""The conversation that goes to the gateway, and what is told about an answer."""

import json

import pytest

from penstock.base.errors import InvalidInputError
from penstock.console import playground
from penstock.console.playground import Question, measured


def question(into: int | None = 100_000, out: int | None = 400_000) -> Question:
    return Question("http://127.0.0.1:9", "psk_x", {}, into, out)


def test_an_answer_is_measured_in_seconds_tokens_and_microeuro() -> None:
    told = measured(question(), {"prompt_tokens": 12, "completion_tokens": 101}, 10.0, 10.25, 12.25)
    assert told == {
        "first_token_seconds": 0.25,
        "seconds": 2.25,
        "prompt_tokens": 12,
        "completion_tokens": 101,
        "tokens_per_second": 50.0,  # the hundred that followed the first, in two seconds
        "microeur": 42,  # (12 x 0.10 + 101 x 0.40) EUR per million, rounded once
    }


def test_without_a_price_or_a_token_nothing_is_made_up() -> None:
    assert measured(question(None), {"completion_tokens": 5}, 0, 1, 2)["microeur"] is None
    told = measured(question(), {}, 0.0, None, 1.0)
    assert (told["first_token_seconds"], told["tokens_per_second"], told["microeur"]) == (None, None, 0)


def test_a_conversation_is_users_and_assistants_and_nothing_else() -> None:
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho", "extra": 1}]
    assert playground._messages(json.dumps(said)) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '[{"role": "system", "content": "x"}]',
        '[{"role": "user", "content": 1}]',
        '[{"role": "user"}]',
        json.dumps([{"role": "user", "content": "x"}] * (playground.MESSAGES_MAX + 1)),
        json.dumps([{"role": "user", "content": "x" * playground.CHARACTERS_MAX}]),
    ],
)
def test_what_is_no_conversation_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        playground._messages(text)
    assert caught.value.field == "messages"


def test_the_gateways_own_sentence_is_passed_on() -> None:
    assert (
        playground._reason(b'{"error": {"message": "the quota is used up"}}', 429) == "the quota is used up"
    )
    assert playground._reason(b"<html>", 502) == "the gateway answered with status 502"
    assert playground._reason(b"[]", 500) == "the gateway answered with status 500"
