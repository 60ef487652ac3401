"""Answers in OpenAI's shapes: whole, and as server-sent events with exact token counts."""

from dataclasses import dataclass

import orjson

from penstock.drivers.ctranslate2.generation import Delta, Generation
from penstock.drivers.ctranslate2.wire import Request

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """The constant part of every piece of one answer."""

    request: Request
    generation: Generation
    created: int

    def _base(self, kind: str) -> dict[str, object]:
        prefix = "chatcmpl-" if self.request.chat else "cmpl-"
        return {
            "id": prefix + self.generation.request_id,
            "object": kind,
            "created": self.created,
            "model": self.request.model,
        }

    def usage(self, completion_tokens: int) -> dict[str, int]:
        """Return the usage object with the tokens fed and the tokens generated so far."""
        fed = self.generation.prompt_tokens
        return {
            "prompt_tokens": fed,
            "completion_tokens": completion_tokens,
            "total_tokens": fed + completion_tokens,
        }

    def whole(self, text: str) -> bytes:
        """Return the answer to a request that did not ask for a stream."""
        finish = self.generation.finish_reason
        choice: dict[str, object] = {"index": 0, "finish_reason": finish, "logprobs": None}
        if self.request.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        body = self._base("chat.completion" if self.request.chat else "text_completion")
        body["choices"] = [choice]
        body["usage"] = self.usage(self.generation.completion_tokens)
        return orjson.dumps(body)

    def _event(self, choices: list[dict[str, object]], completion_tokens: int, *, usage: bool) -> bytes:
        body = self._base("chat.completion.chunk" if self.request.chat else "text_completion")
        body["choices"] = choices
        if usage:
            body["usage"] = self.usage(completion_tokens)
        elif self.request.include_usage:
            body["usage"] = None  # OpenAI sends null on every chunk but the last
        return b"data: " + orjson.dumps(body) + b"\n\n"

    def _choice(self, text: str | None, finish_reason: str | None) -> dict[str, object]:
        choice: dict[str, object] = {"index": 0, "finish_reason": finish_reason, "logprobs": None}
        if self.request.chat:
            choice["delta"] = {} if text is None else {"content": text}
        else:
            choice["text"] = text or ""
        return choice

    def first(self) -> bytes:
        """Return the event that opens a chat stream; a completion stream has none."""
        if not self.request.chat:
            return b""
        choice: dict[str, object] = {"index": 0, "finish_reason": None, "logprobs": None}
        choice["delta"] = {"role": "assistant", "content": ""}
        return self._event([choice], 0, usage=self.request.continuous_usage)

    def pieces(self, deltas: list[Delta]) -> bytes:
        """Return one event for each token that has text, or for each token if every count was asked for."""
        continuous = self.request.continuous_usage
        return b"".join(
            self._event([self._choice(delta.text, None)], delta.completion_tokens, usage=continuous)
            for delta in deltas
            if delta.text or continuous
        )

    def last(self) -> bytes:
        """Return the events that close the stream: the reason, the usage if asked for, and the end mark."""
        generation, request = self.generation, self.request
        total = generation.completion_tokens
        events: list[bytes] = []
        if generation.failure is not None:
            error = {
                "message": generation.failure,
                "type": "server_error",
                "param": None,
                "code": "engine_failed",
            }
            events.append(b"data: " + orjson.dumps({"error": error}) + b"\n\n")
        else:
            choice = self._choice(generation.tail or None, generation.finish_reason)
            events.append(self._event([choice], total, usage=request.continuous_usage))
        if request.include_usage:
            events.append(self._event([], total, usage=True))
        return b"".join([*events, DONE])
