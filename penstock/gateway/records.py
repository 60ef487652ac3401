"""Usage records: what one request consumed, as the control plane bills it."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from penstock.gateway.snapshot import KeyEntry, ModelEntry

ENDINGS = ("stop", "length", "cancelled", "disconnect", "engine_lost", "error")
_ENDING_OF_REASON = {"length": "length", "cancelled": "cancelled", "abort": "cancelled", "error": "error"}

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BLOCK = [a + b + c for a in _ALPHABET for b in _ALPHABET for c in _ALPHABET]  # 15 bits each


class RecordIds:
    """Ids in the layout of a ULID: 48 bits of milliseconds, then 50 bits of this process and a counter of 30.

    A counter instead of fresh randomness costs a microsecond instead of four and cannot repeat in a process;
    the 50 random bits tell processes apart, and are drawn again when the counter is used up.
    """

    __slots__ = ("_count", "_entropy", "_milliseconds", "_process", "_time")

    def __init__(self, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._entropy = entropy
        self._milliseconds = -1
        self._time = ""
        self._count = 0
        self._process = self._draw()

    def _draw(self) -> str:
        number = int.from_bytes(self._entropy(7), "big")
        return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(0, 50, 5))

    def next(self, now_us: int) -> str:
        """Return a fresh id: ``use_`` and 26 characters."""
        milliseconds = now_us // 1000
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            self._time = "use_" + "".join(
                _ALPHABET[(milliseconds >> shift) & 31] for shift in range(45, -5, -5)
            )
        count = self._count
        made = self._time + self._process + _BLOCK[count >> 15] + _BLOCK[count & 32_767]
        self._count = count + 1
        if self._count >> 30:
            self._count = 0
            self._process = self._draw()
        return made


@dataclass(slots=True)
class Usage:
    """Tokens of one request; ``estimated`` where the engine did not state them."""

    prompt: int
    completion: int
    estimated: bool


def ending_of(finish_reason: str | None) -> str:
    """Return the ending for an engine's finish reason: tool calls and content filters are stops too."""
    return "error" if finish_reason is None else _ENDING_OF_REASON.get(finish_reason, "stop")


def key_part(key: KeyEntry) -> bytes:
    """Return the members of a record that are the same for every request of a key."""
    members = {"key": key.id, "tenant": key.tenant, "principal": key.principal}
    return orjson.dumps(members)[1:-1]


def model_part(model: ModelEntry) -> bytes:
    """Return the members of a record that are the same for every request of a model."""
    members = {"project": model.billed_project, "service": model.service, "model": model.name}
    return orjson.dumps(members)[1:-1]


_LINE = (
    b'{"id":"%b",%b,%b,"allocation":%b,"prompt_tokens":%d,"completion_tokens":%d,"ending":"%b","started_at_us":%d,'
    b'"first_token_at_us":%b,"ended_at_us":%d,"streamed":%b,"estimated":%b%b}\n'
)
_FLAG = {False: b"false", True: b"true"}


def record_line(
    parts: tuple[bytes, bytes, bytes],
    usage: Usage,
    *,
    identity: bytes,
    ending: str,
    times_us: tuple[int, int, int],
    streamed: bool,
    running: bool = False,
) -> bytes:
    """Return the journal line of one request; of one that still runs, the next one of the same id replaces it.

    ``parts`` are those of key and model, and the engine's id as JSON; ``times_us`` are start, first token (0: none)
    and end. Put together from bytes, because a dictionary made and encoded costs three times as much.
    """
    started, first, ended = times_us
    return _LINE % (
        identity,
        parts[0],
        parts[1],
        parts[2],
        usage.prompt,
        usage.completion,
        ending.encode(),
        started,
        b"%d" % first if first else b"null",
        ended,
        _FLAG[streamed],
        _FLAG[usage.estimated],
        b',"progress":true' if running else b"",
    )


def final_line(record: dict[str, object]) -> bytes:
    """Return the journal line of a record that was read before."""
    return orjson.dumps(record) + b"\n"


def tokens_of(record: dict[str, object]) -> int:
    """Return the tokens that a record bills; 0 for a record that is not one of ours."""
    total = 0
    for field in ("prompt_tokens", "completion_tokens"):
        value = record.get(field)
        if isinstance(value, int):
            total += value
    return total


def add_tokens(totals: dict[tuple[str, str], int], record: dict[str, object]) -> None:
    """Add a record's tokens to what its tenant and its project used; keys are kind and name of a scope."""
    tenant, tokens = str(record.get("tenant")), tokens_of(record)
    for which in (("tenant", tenant), ("project", f"{tenant}/{record.get('project')}")):
        totals[which] = totals.get(which, 0) + tokens
