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
    """Markers around each message: ``opening``, role, ``header_end``, ``gap``, text, ``closing``, ``trail``.

    ``begin`` stands once before the first message. A marker that is empty is none; ``gap`` and ``trail`` are text.
    """

    name: str
    opening: str
    closing: str
    begin: str = ""
    header_end: str = ""
    gap: str = "\n"
    trail: str = "\n"

    def prompt(
        self, tokenizer: Tokenizer, messages: Sequence[Message], *, continues: bool = False
    ) -> list[int]:
        """Return the token ids of the conversation, up to where the assistant begins to answer.

        ``continues``: the last message is the answer so far, and is gone on with.
        """
        _, closing = (self._marker(tokenizer, marker) for marker in (self.opening, self.closing))
        trail = encode_text(tokenizer, self.trail) if self.trail else []
        ids: list[int] = [self._marker(tokenizer, self.begin)] if self.begin else []
        for message in messages[:-1] if continues else messages:
            ids += [*self._opened(tokenizer, message.role, message.content), closing, *trail]
        # Encoded by itself: the answer so far follows in the tokens that it was written in.
        begun = encode_text(tokenizer, messages[-1].content) if continues else []
        return [*ids, *self._opened(tokenizer, "assistant", ""), *begun]

    def _opened(self, tokenizer: Tokenizer, role: str, content: str) -> list[int]:
        opening = self._marker(tokenizer, self.opening)
        if not self.header_end:
            return [opening, *encode_text(tokenizer, f"{role}{self.gap}{content}")]
        header_end = self._marker(tokenizer, self.header_end)
        return [
            opening,
            *encode_text(tokenizer, role),
            header_end,
            *encode_text(tokenizer, f"{self.gap}{content}"),
        ]

    @staticmethod
    def _marker(tokenizer: Tokenizer, marker: str) -> int:
        token = tokenizer.token_to_id(marker)
        if token is None:
            raise ValueError(f"the tokenizer has no token {marker}")
        return token


TEMPLATES: dict[str, ChatTemplate] = {
    "chatml": ChatTemplate(name="chatml", opening="<|im_start|>", closing="<|im_end|>"),
    "llama3": ChatTemplate(
        name="llama3",
        opening="<|start_header_id|>",
        closing="<|eot_id|>",
        begin="<|begin_of_text|>",
        header_end="<|end_header_id|>",
        gap="\n\n",
        trail="",
    ),
}


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the token ids of ``text``, without any special token."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
