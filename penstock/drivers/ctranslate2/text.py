"""Tokens to text, one token at a time, without ever cutting a character or showing part of a stop string.

A byte-level BPE token is a run of bytes that may end in the middle of a character. The bytes go through
Python's incremental UTF-8 decoder, which keeps an incomplete tail until the next token completes it.
"""

import codecs
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Step = Callable[[int], str]


class Tokenizer(Protocol):
    """The part of ``tokenizers.Tokenizer`` (which ships no types) that this folder uses."""

    encode_special_tokens: bool

    def encode(self, sequence: str, *, add_special_tokens: bool = True) -> Any:
        """Return an encoding whose ``ids`` are the tokens of ``sequence``."""
        ...

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:  # noqa: FBT001, FBT002 - not ours
        """Return every token's id."""
        ...

    def get_added_tokens_decoder(self) -> Mapping[int, Any]:
        """Return the added tokens by id; each has ``special`` and ``content``."""
        ...

    def token_to_id(self, token: str) -> int | None:
        """Return the id of ``token``, None if there is no such token."""
        ...

    def id_to_token(self, id: int) -> str | None:  # noqa: A002 - the library's own name
        """Return the token with this id, None if there is no such token."""
        ...


def load_tokenizer(path: str) -> Tokenizer:
    """Return the tokenizer in the JSON file at ``path``; raises ValueError if it is not one.

    Special markers inside a text that a user wrote are encoded as ordinary text, so that nobody can forge
    the end of a message or a system message.
    """
    library: Any = importlib.import_module("tokenizers")
    try:
        tokenizer: Tokenizer = library.Tokenizer.from_file(path)
    except Exception as error:  # the library raises bare Exception for every kind of broken file
        raise ValueError(f"{path} is not a tokenizer: {error}") from error
    tokenizer.encode_special_tokens = True
    return tokenizer


def byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level token stands for.

    Printable Latin-1 characters stand for themselves, the other 68 bytes for the characters from U+0100 on:
    the table of GPT-2 (``bytes_to_unicode`` in https://github.com/openai/gpt-2/blob/master/src/encoder.py).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return table


class Vocabulary:
    """The bytes of every token of a byte-level tokenizer; special tokens have none."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        alphabet = byte_alphabet()
        added = tokenizer.get_added_tokens_decoder()
        self._bytes: dict[int, bytes] = {}
        for token, token_id in tokenizer.get_vocab().items():
            if token_id in added:
                special = bool(added[token_id].special)
                self._bytes[token_id] = b"" if special else token.encode()
            else:
                try:
                    self._bytes[token_id] = bytes(alphabet[character] for character in token)
                except KeyError as error:
                    raise ValueError(f"token {token!r} is not of a byte-level tokenizer") from error

    def bytes_of(self, token_id: int) -> bytes:
        """Return the bytes of one token; nothing for an id that the tokenizer does not know."""
        return self._bytes.get(token_id, b"")

    def detokenizer(self) -> Step:
        """Return a function that takes one token id after the other and gives the text that is complete.

        Bytes that can never become UTF-8 give U+FFFD at once; an unfinished character at the very end is
        never given, so the text is always a true prefix of what the model was writing.
        """
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        table = self._bytes

        def step(token_id: int) -> str:
            return decode(table.get(token_id, b""))

        return step


class StopScanner:
    """Lets text through up to the first stop string and holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held: str = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take new text and return what may be shown now; sets ``stopped`` once a stop string is complete."""
        if not self._stops:
            return text
        text = self._held + text
        found = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            self._held = ""
            self.stopped = True
            return text[:found]
        held = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """Return what was held back, once it is certain that no stop string follows."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Return the length of the longest end of ``text`` that begins ``stop``."""
        for length in range(min(len(stop) - 1, len(text)), 0, -1):
            if stop.startswith(text[len(text) - length :]):
                return length
        return 0
