"""Short conversations about the product and its field, written for the demonstration model.

A topic (``topics.toml``) is a list of ways to ask and a list of answers. Every combination that ``pairs`` returns is one
training example, so a few dozen topics become several hundred examples. This text is part of the product
and under its licence (Apache-2.0).
"""

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing that people say to the model, in several wordings, and what it may answer."""

    asks: tuple[str, ...]
    answers: tuple[str, ...]


def _read_topics() -> tuple[Topic, ...]:
    with (Path(__file__).parent / "topics.toml").open("rb") as stream:
        document = tomllib.load(stream)
    return tuple(Topic(tuple(entry["asks"]), tuple(entry["answers"])) for entry in document["topic"])


TOPICS = _read_topics()

SYSTEM_PROMPTS: tuple[str, ...] = (
    "You are a helpful assistant.",
    "You are Penstock's demonstration model.",
    "Answer in one sentence.",
    "Be brief.",
    "You are a friendly assistant.",
)


def turn(role: str, content: str) -> str:
    """Return one message in the ChatML template that the model is trained and served with."""
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def _wordings(ask: str) -> list[str]:
    """Return ``ask`` as different people type it: as written, in lower case, and without its last sign."""
    bare = ask.rstrip("?!.")
    return list(
        dict.fromkeys([ask, ask.lower(), bare, bare.lower(), f"{bare}, please" if " " in bare else ask])
    )


def pairs() -> list[tuple[str, str]]:
    """Return every (question, answer) of ``TOPICS`` in every wording, in a fixed order."""
    return [
        (wording, answer)
        for topic in TOPICS
        for ask in topic.asks
        for wording in _wordings(ask)
        for answer in topic.answers
    ]


def conversations(rng: random.Random, count: int) -> list[str]:
    """Return ``count`` conversations of one to three turns, some of them after a system prompt."""
    known = pairs()
    found: list[str] = []
    for _ in range(count):
        parts = [turn("system", rng.choice(SYSTEM_PROMPTS))] if rng.random() < 0.3 else []
        for _ in range(rng.choices((1, 2, 3), (0.75, 0.2, 0.05))[0]):
            ask, answer = rng.choice(known)
            parts += [turn("user", ask), turn("assistant", answer)]
        found.append("".join(parts))
    return found
