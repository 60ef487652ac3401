"""Batches for tests: files of requests, and a gateway that answers as the test wants."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from penstock.drivers.inference.gateway import Reply
from tests.support.tenancy import Caller

CHAT = "/v1/chat/completions"


def request_line(custom_id: str, *, model: str = "writer", **body: Any) -> dict[str, Any]:
    """Return one request of a batch."""
    asked = {"model": model, "messages": [{"role": "user", "content": f"say {custom_id}"}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": asked}


def jsonl(lines: Iterable[Any]) -> bytes:
    """Return lines as a file."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload_file(caller: Caller, data: bytes, name: str = "requests.jsonl") -> str:
    """Upload a file and return its id."""
    answer = caller.request("POST", "/v1/files", data={"purpose": "batch"}, files={"file": (name, data)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def answered(prompt_tokens: int = 10, completion_tokens: int = 5, text: str = "hello") -> Reply:
    """Return what a gateway says to a request that went well."""
    body = {
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
    }
    return Reply(200, json.dumps(body), prompt_tokens, completion_tokens)


class SimulatedGateway:
    """Stands for the gateway's client: counts what was sent, answers what ``act`` says."""

    def __init__(self, act: Callable[[str], Reply] = lambda _: answered()) -> None:
        self.act: Callable[[str], Reply] = act
        self.sent: list[str] = []
        self.passes: set[str] = set()

    def send(self, gateway_url: str, endpoint: str, passed: str, body: str) -> Reply:
        """Answer one request."""
        assert (gateway_url, endpoint) == ("http://gateway", CHAT)
        self.passes.add(passed)
        self.sent.append(body)
        return self.act(body)

    def close(self) -> None:
        """Do nothing."""
