"""Requests of batches to the factory's own gateway, as one more of its clients: with a pass instead of a key."""

import threading
from dataclasses import dataclass
from typing import Any, cast

import httpx
import orjson

from penstock.base import limits


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: an HTTP status (0: nobody answered), the body as text, and its tokens.

    ``later``: nothing is wrong with the request, it is to be sent again when there is room.
    """

    status: int
    body: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    later: bool = False


# Busy, preempted, restarting: none of these says anything about the request.
_LATER = frozenset({0, 429, 503})


class GatewayClient:
    """Connections to the gateway, kept open between requests; may be used by several threads."""

    def __init__(self) -> None:
        self._opened: httpx.Client | None = None
        self._lock = threading.Lock()

    def send(self, gateway_url: str, endpoint: str, passed: str, body: str) -> Reply:
        """Send one request and return what came of it; never raises for what a network or an engine may do."""
        headers = {"authorization": f"Bearer {passed}", "content-type": "application/json"}
        try:
            with self._client().stream(
                "POST", gateway_url.rstrip("/") + endpoint, content=body.encode(), headers=headers
            ) as response:
                raw = bytearray()
                for piece in response.iter_bytes():
                    raw += piece
                    if len(raw) > limits.BATCH_ANSWER_BYTES_MAX:
                        return Reply(413, _too_large())
        except httpx.TimeoutException:
            return Reply(
                504, orjson.dumps({"error": {"message": "no answer in time", "code": "timeout"}}).decode()
            )
        except httpx.HTTPError:
            return Reply(0, "", later=True)
        return _reply(response.status_code, bytes(raw))

    def _client(self) -> httpx.Client:
        with self._lock:
            if self._opened is None:
                self._opened = httpx.Client(
                    trust_env=False, follow_redirects=False, timeout=limits.BATCH_REQUEST_SECONDS
                )
            return self._opened

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None


def _too_large() -> str:
    message = f"the answer is over the limit of {limits.BATCH_ANSWER_BYTES_MAX} bytes; ask for fewer tokens"
    return orjson.dumps({"error": {"message": message, "code": "answer_too_large"}}).decode()


def _reply(status: int, raw: bytes) -> Reply:
    try:
        document: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        return Reply(502 if status == 200 else status, "{}", later=status in _LATER)
    usage = cast("dict[str, Any]", document).get("usage")
    counts = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Reply(
        status,
        raw.decode(errors="replace").replace("\0", ""),
        prompt if isinstance(prompt, int) and status == 200 else 0,
        completion if isinstance(completion, int) and status == 200 else 0,
        later=status in _LATER,
    )
