"""One call to an engine that speaks OpenAI's API, with bounded time and answer, and the tokens it says it used.

The address is that of a replica of the project's own service, as its agent reported it.
"""

import base64
import threading
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import httpx
import orjson

from penstock.base import limits
from penstock.base.errors import UnavailableError

ANSWER_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A replica: its address, the name it answers to, and whose it is, for the books."""

    url: str
    model: str
    service_id: str
    allocation_id: str


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors in the order of their texts, as pgvector reads them, and the tokens that were read."""

    vectors: list[str]
    tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A text with the tokens that were read and written for it."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


class InferenceClient:
    """Connections to engines, kept open between calls; may be used by several threads."""

    def __init__(self) -> None:
        self._opened: httpx.Client | None = None
        self._lock = threading.Lock()

    def _client(self) -> httpx.Client:
        """Return the client, made at first use: most processes never need it."""
        with self._lock:
            if self._opened is None:
                self._opened = httpx.Client(trust_env=False, follow_redirects=False)
            return self._opened

    def embed(self, target: Target, texts: Sequence[str], dimensions: int, tokens_max: int) -> Vectors:
        """Return vectors of ``texts``, each cut to ``tokens_max`` tokens; raises UnavailableError."""
        body = {
            "model": target.model,
            "input": list(texts),
            "encoding_format": "base64",
            "truncate_prompt_tokens": tokens_max,
        }
        document = self._post(f"{target.url}/v1/embeddings", body, limits.EMBEDDING_SECONDS)
        try:
            data = sorted(document["data"], key=lambda item: item["index"])
            vectors = [array("f", base64.b64decode(item["embedding"])) for item in data]
            tokens = int(document["usage"]["prompt_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise UnavailableError(_NONSENSE, internal=repr(error)) from error
        if len(vectors) != len(texts) or any(len(vector) != dimensions for vector in vectors):
            raise UnavailableError(_NONSENSE, internal="vectors of another number or length")
        return Vectors([as_text(vector) for vector in vectors], tokens)

    def chat(self, target: Target, messages: Sequence[Mapping[str, str]], tokens_max: int) -> Answer:
        """Return the answer to a conversation; raises UnavailableError."""
        body = {"model": target.model, "messages": list(messages), "max_tokens": tokens_max, "temperature": 0}
        document = self._post(f"{target.url}/v1/chat/completions", body, limits.ANSWER_SECONDS)
        try:
            choice, usage = document["choices"][0], document["usage"]
            return Answer(
                str(choice["message"]["content"]),
                int(usage["prompt_tokens"]),
                int(usage["completion_tokens"]),
                str(choice["finish_reason"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UnavailableError(_NONSENSE, internal=repr(error)) from error

    def rerank(self, target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an engine that ranks texts answers; raises UnavailableError."""
        return self._post(f"{target.url}/v1/rerank", body, limits.EMBEDDING_SECONDS)

    def _post(self, url: str, body: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        try:
            with self._client().stream("POST", url, json=body, timeout=seconds) as response:
                parts: list[bytes] = []
                for part in response.iter_bytes():
                    parts.append(part)
                    if sum(map(len, parts)) > ANSWER_BYTES_MAX:
                        raise UnavailableError(_NONSENSE, internal="the answer is over the limit")
            document: object = orjson.loads(b"".join(parts))
        except (httpx.HTTPError, orjson.JSONDecodeError) as error:
            raise UnavailableError(_SILENT, internal=repr(error)) from error
        if response.status_code != 200 or not isinstance(document, dict):
            raise UnavailableError(_refusal(document), internal=f"{response.status_code} of {url}")
        return cast("dict[str, Any]", document)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None


_SILENT = "the endpoint's engine does not answer right now; see whether the service runs and try again"
_NONSENSE = "the endpoint's engine gave an answer that is none; see whether its model fits"


def _refusal(document: object) -> str:
    """Return what the engine said, for a person."""
    fields = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    error = fields.get("error")
    message = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else None
    return f"the endpoint's engine refused: {str(message)[:300]}" if message else _SILENT


def as_text(vector: Sequence[float]) -> str:
    """Return a vector in the text form that pgvector reads."""
    return "[" + ",".join(f"{value:.5g}" for value in vector) + "]"
