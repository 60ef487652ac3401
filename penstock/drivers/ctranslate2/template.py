"""Conversations to prompt tokens.

A template places markers, which are single special tokens, around texts, which are encoded without special
tokens: what a user writes can never become a marker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.drivers.ctranslate2.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Markers around each message: ``opening`` + role + newline + text + ``closing`` + newline."""

    name: str
    opening: str
    closing: str

    def prompt(
        self, tokenizer: Tokenizer, messages: Sequence[Message], *, continues: bool = False
    ) -> list[int]:
        """Return the token ids of the conversation, up to where the assistant begins to answer.

        ``continues``: the last message is the answer so far, and is gone on with.
        """
        opening, closing = self._marker(tokenizer, self.opening), self._marker(tokenizer, self.closing)
        newline = encode_text(tokenizer, "\n")
        ids: list[int] = []
        for message in messages[:-1] if continues else messages:
            text = encode_text(tokenizer, f"{message.role}\n{message.content}")
            ids += [opening, *text, closing, *newline]
        # Encoded by itself: the answer so far follows in the tokens that it was written in.
        begun = encode_text(tokenizer, messages[-1].content) if continues else []
        return [*ids, opening, *encode_text(tokenizer, "assistant\n"), *begun]

    @staticmethod
    def _marker(tokenizer: Tokenizer, marker: str) -> int:
        token = tokenizer.token_to_id(marker)
        if token is None:
            raise ValueError(f"the tokenizer has no token {marker}")
        return token


TEMPLATES: dict[str, ChatTemplate] = {
    "chatml": ChatTemplate(name="chatml", opening="<|im_start|>", closing="<|im_end|>"),
}


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of ``text``, without any special token."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
