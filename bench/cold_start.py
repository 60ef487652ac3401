"""From nothing to the first token: a request to an endpoint that sleeps, on the embedded engine of this machine.

    python -m bench.cold_start [--quick]

One factory, one endpoint with ``replicas_min`` 0. Each round lets it go to sleep (nothing runs, nothing is held), then
sends one streamed request and takes the time until the first token has arrived; what a request to the
running endpoint takes is said beside it.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench import support
from tests.support.factory_process import demo_project

ROUNDS = 5
SLEEP_SECONDS = 60.0


def first_token_s(gateway: httpx.Client) -> float:
    """Return the seconds until the first text of a streamed answer."""
    messages = [{"role": "user", "content": "What is a GPU?"}]
    body = {"model": "chat", "messages": messages, "max_tokens": 4, "stream": True}
    began = time.monotonic()
    taken = 0.0
    with gateway.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not taken and '"content":"' in line and '"content":""' not in line:
                taken = time.monotonic() - began
    if not taken:
        raise SystemExit("the answer had no text")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, to see that the bench works")
    options = parser.parse_args()
    cold: list[dict[str, Any]] = []
    warm: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-cold-start-") as text,
        support.Factory(Path(text), simulated="none") as factory,
        factory.client(factory.keys().demo) as client,
        httpx.Client(base_url=factory.gateway_url, headers=client.headers, timeout=60) as gateway,
    ):
        spec = {"replicas_min": 0, "replicas_max": 1, "idle_seconds": 1}
        order = {"offer": "llm-demo", "project": demo_project(client), "name": "chat", "spec": spec}
        path = f"/v1/services/{client.post('/v1/services', json=order).raise_for_status().json()['id']}"
        for _ in range(1 if options.quick else ROUNDS):
            support.until(
                lambda: client.get(path).json()["state"] == "asleep", SLEEP_SECONDS, "the endpoint sleeps"
            )
            cold.append({"first_token_s": first_token_s(gateway)})
            warm.append({"first_token_s": first_token_s(gateway)})
    support.emit("cold_start", "from zero replicas", **support.medians(cold), worst_s=worst(cold))
    support.emit("cold_start", "running", **support.medians(warm), worst_s=worst(warm))


def worst(runs: list[dict[str, Any]]) -> float:
    """Return the longest of them."""
    return round(max(run["first_token_s"] for run in runs), 4)


if __name__ == "__main__":
    main()
