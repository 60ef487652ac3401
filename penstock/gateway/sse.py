"""A stream of server-sent events on its way through: counted exactly, and changed only where it must be.

The gateway always asks the engine for continuous usage. A client that did not ask gets what the OpenAI
API promises it instead: no ``usage`` on the way, no extra event with empty ``choices``. What stays is
``usage`` on the event that carries the finish reason, because that is harmless and tells the totals.
A client that asked for ``include_usage`` gets ``usage: null`` on the way and the usage event at the end.
"""

import re
from dataclasses import dataclass
from typing import cast

import orjson

from penstock.gateway.records import Usage

DONE = b"data: [DONE]\n\n"
# Usage as the last member of an event, in the orders in which engines write it.
_USAGE_MARK = b',"usage":{'
_COUNTS = (b"completion_tokens", b"total_tokens")
_CHUNK_END = b"\n\n\r\n"  # of a chunk that ends with an event
_USAGE_AT_END = re.compile(
    rb',"usage":\{"prompt_tokens":(\d{1,12}),'
    rb'(?:"completion_tokens":(\d{1,12}),"total_tokens":\d{1,12}|"total_tokens":\d{1,12},"completion_tokens":(\d{1,12}))\}\}\Z'
)


def token_count(value: object) -> int | None:
    """Return a token count from an engine if it is a plausible one, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40:
        return value
    return None


@dataclass(frozen=True, slots=True)
class Carried:
    """What the part of a stream before this one was: its tokens (``prompt`` 0: never stated), and its id and date."""

    prompt: int
    completion: int
    identity: tuple[object, object]
    exact: bool = True


class Meter:
    """Counts one stream and rewrites its events.

    ``prompt_tokens`` and ``completion_tokens`` are what the engine said last; ``since`` counts
    content-bearing events after that, each of which is at least one token.
    """

    __slots__ = (
        "_as_is",
        "_carried",
        "_ending",
        "_event_bytes_max",
        "_include_usage",
        "_instead",
        "_keep_usage",
        "_per_choice",
        "_prefix",
        "_several",
        "_shown_prefix",
        "_shown_suffix",
        "_suffix",
        "_tail",
        "_total_first",
        "_usage_at_end",
        "completion_tokens",
        "content_seen",
        "done",
        "error_seen",
        "final_usage",
        "finish_reason",
        "identity",
        "kept",
        "name",
        "overflow",
        "prompt_tokens",
        "since",
        "text",
        "unreadable",
        "usage_seen",
    )

    def __init__(
        self,
        name: str,
        *,
        include_usage: bool = False,
        continuous: bool = False,
        choices: int = 1,
        event_bytes_max: int = 1 << 20,
        keep_text: bool = False,
        carried: Carried | None = None,
    ) -> None:
        self.name = name
        self.kept = keep_text  # and all of the answer so far is in ``text``
        self.text = bytearray()  # as it stands in JSON
        self.identity: tuple[object, object] = (None, None)  # id and date of the events
        self._carried = carried
        self._instead = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._prefix = self._suffix = b""
        self._shown_prefix: bytes | None = None
        self._usage_at_end = self._total_first = self._as_is = False
        self._ending = self._shown_suffix = b""
        self._include_usage = include_usage
        self._keep_usage = include_usage and continuous
        self._several = choices > 1
        self._per_choice: dict[object, int] = {}
        self._event_bytes_max = event_bytes_max
        self._tail: bytes = b""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.since = 0
        self.content_seen = False
        self.usage_seen = False
        self.final_usage = False
        self.finish_reason: str | None = None
        self.error_seen = False
        self.done = False
        self.unreadable = 0
        self.overflow = False
        if carried is not None:
            self.prompt_tokens, self.completion_tokens = carried.prompt, carried.completion
            self.usage_seen = bool(carried.prompt)
            self.content_seen = True
            self.identity = carried.identity

    @property
    def exact(self) -> bool:
        """Tell whether the counts are the engine's own and nothing came after them."""
        return self.usage_seen and self.since == 0 and (self._carried is None or self._carried.exact)

    def usage_event(self, usage: Usage) -> bytes:
        """Return the usage event that the client asked for and the engine does not send."""
        counts = {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.prompt + usage.completion,
        }
        event: dict[str, object] = {
            "object": "chat.completion.chunk",
            "model": self.name,
            "choices": [],
            "usage": counts,
        }
        return b"data: " + orjson.dumps(event) + b"\n\n"

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the engine's answer; return the complete events for the client, without ``[DONE]``.

        After ``[DONE]`` everything is dropped. ``overflow`` is set when an event is over its limit.
        """
        if self.done:
            return b""
        buffer = self._tail + data if self._tail else data
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n")
        end = buffer.find(b"\n\n")
        if end == len(buffer) - 2 and end >= 0:  # one whole event: nearly always
            self._tail = b""
            changed = self._event(buffer[:end])
            return buffer if changed is None else changed
        end = buffer.rfind(b"\n\n")
        if end < 0:
            self._tail = buffer
            self.overflow = len(buffer) > self._event_bytes_max
            return b""
        self._tail = buffer[end + 2 :]
        self.overflow = len(self._tail) > self._event_bytes_max
        events = buffer[:end].split(b"\n\n")
        out: list[bytes] = []
        for event in events:
            changed = self._event(event)
            out.append(event + b"\n\n" if changed is None else changed)
            if self.done:
                break
        return b"".join(out)

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Count the ordinary events that ``data`` begins with, each a chunk of its own.

        Returns them as chunks for the client, and the rest of ``data``, which is the parser's. Ordinary is what
        ``_event`` knows by its first and last bytes; here the chunk's frame is looked at too, and usage must be that
        of one token more, so that nothing needs to be parsed or put together.
        """
        if not self._ending or self._tail:
            return b"", data
        one = self._one(data)
        if one:  # nearly always
            return one, b""
        out: list[bytes] = []
        while (end := data.find(_CHUNK_END) + 4) > 3:
            one = self._one(data[:end])
            if not one:
                break
            out.append(one)
            data = data[end:]
        return b"".join(out), data

    def _one(self, data: bytes) -> bytes:
        """Count ``data`` if it is one chunk with one ordinary event and return it for the client; else empty."""
        length = len(data)
        prefix, ending = self._prefix, self._ending
        begin = 4 if length < 262 else 5 if length < 4_103 else 6  # its size has so few digits, and "\r\n"
        completion = total = 0
        if self._usage_at_end:
            completion = self.completion_tokens + 1
            total = self.prompt_tokens + completion
            ending %= (total, completion) if self._total_first else (completion, total)
        text = data[begin + len(prefix) : -len(ending)]
        if (
            not text
            or not data.endswith(ending)
            or not data.startswith(b"%x\r\n%b" % (length - begin - 2, prefix))
            or b'"' in text
            or b"\n" in text
        ):
            return b""
        if total:
            self.completion_tokens = completion
            self.since = 0
        else:
            self.since += 1
        if self.kept:
            self.text += text
        if self._as_is:
            return data
        prefix, suffix = self._shown_prefix or prefix, self._shown_suffix or ending
        return b"%x\r\n%b%b%b" % (len(prefix) + len(text) + len(suffix) - 2, prefix, text, suffix)

    def _event(self, event: bytes) -> bytes | None:
        """Count one event; return its replacement (empty to drop it), or None to pass it as it is.

        Nearly all events of a stream differ from the one before only in a text and in usage numbers. Those
        are recognised by comparing the bytes around the text with an event that was decoded and understood;
        every other event is decoded.
        """
        prefix = self._prefix
        if prefix and event.startswith(prefix):
            cut = event.rfind(_USAGE_MARK, len(prefix)) if self._usage_at_end else len(event)
            text = (
                event[len(prefix) : cut - len(self._suffix)] if event.endswith(self._suffix, 0, cut) else b""
            )
            if text and b'"' not in text and self._usage_follows(event, cut):
                if self.kept:
                    self.text += text
                return self._shown(event, cut)
        payload = event[6:] if event.startswith(b"data: ") and b"\n" not in event else _payload(event)
        if payload is None:
            return None
        if payload[:1] != b"{":
            if payload.strip() == b"[DONE]":
                self.done = True
                self._tail = b""
                return b""
            self.unreadable += 1
            return None
        try:
            chunk = orjson.loads(payload)
            if not prefix and not self._several and self._carried is None:
                self._learn(event, chunk)
            return self._chunk(chunk)
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            # The engine's nonsense is passed on for the client to judge, and shows in the metrics.
            self.unreadable += 1
            return None

    def _usage_follows(self, event: bytes, cut: int) -> bool:
        """Count an ordinary event whose usage, if there is any, begins at ``cut``."""
        if not self._usage_at_end:
            self.since += 1
            return True
        found = _USAGE_AT_END.match(event, cut)
        if found is None:
            return False
        prompt, completion, other = found.groups()
        self.prompt_tokens = int(prompt)
        self.completion_tokens = int(completion or other)
        self.since = 0
        return True

    def _shown(self, event: bytes, cut: int) -> bytes | None:
        """Return an ordinary event as the client gets it; None for as it is."""
        strip = self._usage_at_end and not self._keep_usage
        if self._shown_prefix is not None:
            event = self._shown_prefix + event[len(self._prefix) : cut if strip else len(event)]
            return event + self._instead if strip else event + b"\n\n"
        return event[:cut] + self._instead if strip else None

    def _learn(self, event: bytes, chunk: dict[str, object]) -> None:
        """Remember the bytes around the text of an event that was understood, if it is an ordinary one."""
        choices = cast("list[dict[str, object]]", chunk.get("choices") or [])
        if len(choices) != 1 or choices[0].get("finish_reason") or b"\n" in event:
            return
        delta = choices[0].get("delta")
        field = "text" if delta is None else "content"
        text = cast("dict[str, object]", choices[0] if delta is None else delta).get(field)
        mark = b'"%b":"' % field.encode()
        if not isinstance(text, str) or not text or event.count(mark) != 1:
            return
        begin = event.index(mark) + len(mark)
        end = begin + len(text.encode())
        if event[begin:end] != text.encode():
            return  # it holds escapes; a later event will do
        usage = "usage" in chunk
        cut = event.rfind(_USAGE_MARK) if usage else len(event)
        found = _USAGE_AT_END.match(event, cut) if usage else None
        if cut < end or (usage and found is None):
            return
        prefix = event[:begin]
        model = chunk.get("model", self.name)
        if model != self.name:
            old = b'"model":' + orjson.dumps(model)
            if prefix.count(old) != 1:
                return
            self._shown_prefix = prefix.replace(old, b'"model":' + orjson.dumps(self.name))
        self._prefix, self._suffix, self._usage_at_end = prefix, event[end:cut], usage
        self._learn_chunk(found)

    def _learn_chunk(self, usage: re.Match[bytes] | None) -> None:
        """Remember how a chunk ends that is an ordinary event, and how the client gets it."""
        strip = usage is not None and not self._keep_usage
        self._as_is = not strip and self._shown_prefix is None
        if strip:
            self._shown_suffix = self._suffix + self._instead + b"\r\n"
        if usage is None:
            self._ending = self._suffix + _CHUNK_END
            return
        self._total_first = usage.group(2) is None
        first, second = _COUNTS[:: -1 if self._total_first else 1]
        mark = self._suffix.replace(b"%", b"%%") + _USAGE_MARK + b'"prompt_tokens":' + usage.group(1)
        self._ending = mark + b',"%b":%%d,"%b":%%d}}' % (first, second) + _CHUNK_END

    def _chunk(self, chunk: dict[str, object]) -> bytes | None:
        choices = cast("list[dict[str, object]]", chunk.get("choices") or [])
        finished = self._count(choices)
        changed = False
        if self._carried is not None:
            if _begins(choices):
                return b""  # the client has seen the beginning of this message
            chunk["id"], chunk["created"] = self.identity
            changed = True
        elif self.identity[0] is None:
            self.identity = chunk.get("id"), chunk.get("created")
        if "usage" in chunk:
            usage = cast("dict[str, object] | None", chunk["usage"])
            if usage:
                self._usage(usage, choices)
                if self._carried is not None:
                    chunk["usage"] = {**usage, **self._stated()}
                if not choices and not self._include_usage:
                    return b""
            changed = self._show_usage(chunk, on_the_way=bool(choices), finished=finished) or changed
        elif "error" in chunk and not choices:
            self.error_seen = True
            return None
        if chunk.get("model", self.name) != self.name:
            chunk["model"] = self.name
            changed = True
        return b"data: " + orjson.dumps(chunk) + b"\n\n" if changed else None

    def _count(self, choices: list[dict[str, object]]) -> bool:
        """Count content; tell whether a choice is finished with this event."""
        finished = False
        for choice in choices:
            reason = choice.get("finish_reason")
            if reason:
                finished = True
                self.finish_reason = str(reason)
            if choice.get("text") or _has_content(choice.get("delta")):
                self.content_seen = True
                self.since += 1
                if self.kept:
                    self._keep(choice)
        return finished

    def _keep(self, choice: dict[str, object]) -> None:
        """Keep the text of an event; an answer that is more than text is kept no longer."""
        delta = cast("dict[str, object] | None", choice.get("delta"))
        text = choice.get("text") if delta is None else delta.get("content")
        more = delta is not None and any(delta.get(field) for field in _MORE_THAN_TEXT)
        if isinstance(text, str) and not more:
            self.text += orjson.dumps(text)[1:-1]
        else:
            self.kept = False

    def _stated(self) -> dict[str, int]:
        """Return the tokens of all parts of the stream as an engine would state them."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def _show_usage(self, chunk: dict[str, object], *, on_the_way: bool, finished: bool) -> bool:
        """Make ``usage`` what this client was promised; tell whether that changed the event."""
        if self._include_usage:
            if self._keep_usage or not on_the_way or chunk["usage"] is None:
                return False
            chunk["usage"] = None
            return True
        if finished and chunk["usage"]:
            return False
        del chunk["usage"]
        return True

    def _usage(self, usage: dict[str, object], choices: list[dict[str, object]]) -> None:
        prompt = token_count(usage.get("prompt_tokens"))
        completion = token_count(usage.get("completion_tokens"))
        if prompt is None:
            return
        completion = completion or 0
        carried = self._carried
        if carried is not None:  # the prompt of this part is the first one's and what came of it
            prompt = carried.prompt or max(1, prompt - carried.completion)
            completion += carried.completion
        self.prompt_tokens = prompt
        self.usage_seen = True
        self.since = 0
        if not choices:
            self.final_usage = True
        elif self._several:
            # Engines count each choice by itself until the last event, which has the sum.
            for choice in choices:
                self._per_choice[choice.get("index")] = completion
            completion = sum(self._per_choice.values())
        self.completion_tokens = completion


_MORE_THAN_TEXT = ("tool_calls", "reasoning_content", "reasoning", "refusal")


def _begins(choices: list[dict[str, object]]) -> bool:
    """Tell whether an event only says whose message begins."""
    if len(choices) != 1 or choices[0].get("finish_reason"):
        return False
    delta = choices[0].get("delta")
    return isinstance(delta, dict) and "role" in delta and not _has_content(cast("dict[str, object]", delta))


def _has_content(delta: object) -> bool:
    if not isinstance(delta, dict):
        return False
    fields = cast("dict[str, object]", delta)
    return bool(
        fields.get("content")
        or fields.get("tool_calls")
        or fields.get("reasoning_content")
        or fields.get("reasoning")
        or fields.get("refusal")
    )


def _payload(event: bytes) -> bytes | None:
    """Return the joined data lines of an event in any legal form; None for comments and empty events."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
