"""The first token: a demonstration tenant orders an LLM endpoint over the public API and talks to it.

Nothing here knows more than any client does: an API key, two URLs.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from penstock.base.errors import StartupError

PROMPT = "What is Penstock?"
SERVICE_NAME = "hello"
OFFER = "llm-demo"
ANSWER_TOKENS_MAX = 48
_POLL_SECONDS = 0.03
_LIVE = ("queued", "starting", "running", "degraded")


@dataclass(slots=True)
class FirstToken:
    """What came of it, as the API reports it."""

    service: dict[str, Any]
    text: str
    usage: dict[str, Any]
    cost: dict[str, Any]
    to_first_token_seconds: float
    is_new: bool


class Demo:
    """Orders, waits, asks, reads the bill."""

    def __init__(self, api_url: str, gateway_url: str, api_key: str, project_id: str, seconds: float) -> None:
        headers = {"authorization": f"Bearer {api_key}", "user-agent": "penstock-up"}
        self._api = httpx.Client(base_url=api_url, headers=headers, timeout=30.0)
        self._gateway = httpx.Client(base_url=gateway_url, headers=headers, timeout=60.0)
        self._project_id = project_id
        self._deadline = time.monotonic() + seconds

    def run(self, on_state: Callable[[str], None], on_text: Callable[[str], None]) -> FirstToken:
        """Return when the first answer is there and metered; StartupError says what stands in the way."""
        started = time.monotonic()
        try:
            service, is_new = self._find_or_order()
            service = self._wait_running(service, on_state)
            text, usage, first = self._ask(service["name"], on_text)
            service, cost = self._bill(service["id"], usage, on_state)
        except httpx.HTTPError as error:
            raise StartupError(f"the demonstration order failed: {error}") from error
        finally:
            self._api.close()
            self._gateway.close()
        return FirstToken(service, text, usage, cost, first - started, is_new)

    def _find_or_order(self) -> tuple[dict[str, Any], bool]:
        listed = _good(
            self._api.get(
                "/v1/services", params={"name": SERVICE_NAME, "project": self._project_id, "limit": 50}
            )
        )
        for service in listed["items"]:
            if service["state"] in _LIVE:
                return service, False
        body = {"offer": OFFER, "project": self._project_id, "name": SERVICE_NAME}
        return _good(self._api.post("/v1/services", json=body)), True

    def _wait_running(self, service: dict[str, Any], on_state: Callable[[str], None]) -> dict[str, Any]:
        while service["state"] != "running":
            on_state(f"{service['state']}: {service['message'] or service['state_sentence']}")
            if service["state"] in ("failed", "released"):
                raise StartupError(f"the demonstration endpoint is {service['state']}: {service['message']}")
            self._pause(f"the demonstration endpoint is still {service['state']}: {service['message']}")
            service = _good(self._api.get(f"/v1/services/{service['id']}"))
        return service

    def _ask(self, model: str, on_text: Callable[[str], None]) -> tuple[str, dict[str, Any], float]:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": ANSWER_TOKENS_MAX,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        while True:
            with self._gateway.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code == 200:
                    return self._read(response, on_text)
                problem = response.read().decode(errors="replace")[:300]
            # The gateway learns of a new endpoint a moment after it runs.
            self._pause(f"the gateway does not serve the endpoint: {problem}")

    def _read(
        self, response: httpx.Response, on_text: Callable[[str], None]
    ) -> tuple[str, dict[str, Any], float]:
        pieces: list[str] = []
        usage: dict[str, Any] = {}
        first = 0.0
        for event in _events(response):
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                piece = choice.get("delta", {}).get("content") or ""
                if piece:
                    first = first or time.monotonic()
                    pieces.append(piece)
                    on_text(piece)
        if not first:
            raise StartupError(
                "the engine answered without a single token; see the engine's log in the data folder"
            )
        return "".join(pieces), usage, first

    def _bill(
        self, service_id: str, usage: dict[str, Any], on_state: Callable[[str], None]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Wait until the gateway delivered its records, then read what the ledger says."""
        on_state("waiting for the meter")
        wanted = int(usage.get("completion_tokens", 0))
        while True:
            cost = _good(self._api.get("/v1/usage", params={"service": service_id, "group_by": "meter"}))
            metered = sum(row["quantity"] for row in cost["items"] if row["meter"] == "output_tokens")
            if metered >= wanted:
                return _good(self._api.get(f"/v1/services/{service_id}")), cost
            self._pause("the usage of the first answer has not reached the ledger yet")

    def _pause(self, sentence: str) -> None:
        if time.monotonic() > self._deadline:
            raise StartupError(f"no first token in time: {sentence}")
        time.sleep(_POLL_SECONDS)


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])


def _good(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON of a success; StartupError with the API's own sentence otherwise."""
    document: dict[str, Any] = response.json()
    if response.status_code >= 400:
        raise StartupError(f"{document['error']['message']} ({document['error']['code']})")
    return document
