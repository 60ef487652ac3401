"""What prefix-aware routing is worth: a recorded trace replayed against simulated engines. One JSON line per case.

    python -m bench.routing [--trace FILE] [--engines 4]

The trace is Mooncake's (arrivals, prompt and answer lengths, ids of 512-token blocks). Each *simulated* engine reads
prompts one after another at a fixed rate, keeps blocks in a cache of bounded size (least recently used) and skips
the beginning that it kept; answers cost the others a share of that rate while they last. The routers see only what
a gateway sees: no engine tells its cache or its queue. ``least loaded`` counts requests in flight; ``prefix aware`` is
penstock.gateway.routing as it runs, ``least tokens`` the same without beginnings. Time to first token is waiting plus reading. Three loads: the trace as it is,
the part of it in which beginnings come again most (``high reuse``), and one in which none does (``no reuse``).
Without the trace on this machine the bench says so and prints nothing else.
"""

import argparse
import csv
import gzip
import heapq
import json
import statistics
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.gateway.prefixes import BLOCK_TOKENS
from penstock.gateway.routing import Router

TRACE = Path(__file__).parents[2] / "shared" / "traces" / "llm" / "mooncake_conversation_first_half.csv.gz"
TRACE_BLOCK_TOKENS = 512
READ_TOKENS_PER_S = 8_000.0
WRITE_S_PER_TOKEN = 0.02
SHARE_PER_ANSWER = 0.01  # of the reading rate, for each answer being written
CACHE_BLOCKS = 1_000


@dataclass(slots=True)
class Request:
    """One request of the trace; ``blocks`` are the trace's, ``shown`` the same in blocks of the router's size."""

    at: float
    tokens: int
    answer: int
    blocks: list[int]

    @property
    def shown(self) -> list[int]:
        """Return what a router sees of the beginning."""
        parts = TRACE_BLOCK_TOKENS // BLOCK_TOKENS
        return [block * parts + part for block in self.blocks for part in range(parts)]


@dataclass(slots=True, eq=False)
class Engine:
    """A simulated engine, and what a router knows of it."""

    slots: int = 1 << 30
    in_flight: int = 0
    pending_tokens: int = 0
    down_until: float = 0.0
    failures: int = 0
    waiting: deque[tuple[Request, int]] = field(default_factory=deque[tuple[Request, int]])
    reading: bool = False
    writing: int = 0
    cache: "OrderedDict[int, None]" = field(default_factory=OrderedDict)

    def kept(self, request: Request) -> int:
        """Return the tokens of a prompt that need not be read."""
        for depth, block in enumerate(request.blocks):
            if block not in self.cache:
                return depth * TRACE_BLOCK_TOKENS
        return min(request.tokens, len(request.blocks) * TRACE_BLOCK_TOKENS)

    def keep(self, request: Request) -> None:
        """Keep a prompt's blocks and forget those used longest ago."""
        for block in request.blocks:
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > CACHE_BLOCKS:
            self.cache.popitem(last=False)


class Replay:
    """One policy over one load."""

    def __init__(self, engines: int, policy: str) -> None:
        self.engines = tuple(Engine() for _ in range(engines))
        self.policy = policy
        self.router: Router[Engine, object] = Router(blocks_max=32_768, queue_max=1, gone=lambda _: True)
        self.router.update(self.engines)
        self.events: list[tuple[float, int, str, Engine, Request | None, int]] = []
        self.count = 0
        self.firsts: list[float] = []
        self.saved = 0
        self.read = 0

    def _event(self, at: float, kind: str, engine: Engine, request: Request | None, asked: int) -> None:
        self.count += 1
        heapq.heappush(self.events, (at, self.count, kind, engine, request, asked))

    def _choose(self, request: Request) -> Engine:
        if self.policy == "round robin":
            self.count += 1
            return self.engines[self.count % len(self.engines)]
        if self.policy == "least loaded":
            return min(self.engines, key=lambda engine: engine.in_flight)
        blocks = request.shown if self.policy == "prefix aware" else []
        chosen = self.router.choose(request.at, tokens=request.tokens, blocks=blocks)
        if chosen is None:
            raise AssertionError("engines here take everything")
        return chosen

    def run(self, requests: list[Request]) -> dict[str, float]:
        """Replay and return the figures, in milliseconds."""
        for request in requests:
            self._until(request.at)
            engine = self._choose(request)
            blocks = request.shown if self.policy == "prefix aware" else []
            asked = max(1, request.tokens - self.router.saved_tokens(engine, blocks))
            self.router.sent(engine, blocks, "")
            engine.in_flight += 1
            engine.pending_tokens += asked
            engine.waiting.append((request, asked))
            self._read_next(engine, request.at)
        self._until(float("inf"))
        ordered = sorted(self.firsts)
        return {
            "ttft_mean_ms": round(statistics.fmean(ordered) * 1e3, 1),
            "ttft_p50_ms": round(ordered[len(ordered) // 2] * 1e3, 1),
            "ttft_p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1e3, 1),
            "reused_share": round(self.saved / (self.saved + self.read), 3),
        }

    def _until(self, at: float) -> None:
        while self.events and self.events[0][0] <= at:
            now, _, kind, engine, request, asked = heapq.heappop(self.events)
            if kind == "written" or request is None:
                engine.writing -= 1
                engine.in_flight -= 1
                continue
            engine.reading = False
            engine.pending_tokens -= asked
            engine.writing += 1
            self.firsts.append(now - request.at)
            self._event(now + request.answer * WRITE_S_PER_TOKEN, "written", engine, None, 0)
            self._read_next(engine, now)

    def _read_next(self, engine: Engine, now: float) -> None:
        if engine.reading or not engine.waiting:
            return
        engine.reading = True
        request, asked = engine.waiting.popleft()
        kept = engine.kept(request)
        engine.keep(request)
        self.saved += kept
        self.read += request.tokens - kept
        rate = READ_TOKENS_PER_S * max(0.2, 1 - SHARE_PER_ANSWER * engine.writing)
        self._event(now + (request.tokens - kept + 1) / rate, "read", engine, request, asked)


def read_trace(path: Path) -> Iterator[Request]:
    """Yield the requests of the trace; each block's id stands for everything before it too."""
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            ids = [int(text) for text in row["hash_ids"].split()]
            yield Request(
                int(row["arrival_ms"]) / 1e3, int(row["input_tokens"]), int(row["output_tokens"]), ids
            )


def high_reuse(requests: list[Request], share: float = 0.5) -> list[Request]:
    """Return the requests of which at least ``share`` came before, with the ones that they repeat."""
    first: dict[int, int] = {}
    chosen: set[int] = set()
    for number, request in enumerate(requests):
        known = [first[block] for block in request.blocks if block in first]
        if len(known) >= share * len(request.blocks):
            chosen |= {number, *known[1:]}
        for block in request.blocks:
            first.setdefault(block, number)
    return [requests[number] for number in sorted(chosen)]


def squeezed(requests: list[Request], engines: int, load: float) -> list[Request]:
    """Return the requests with arrivals so dense that reading all of them would use ``load`` of the engines."""
    work = sum(request.tokens for request in requests) / READ_TOKENS_PER_S / engines
    factor = work / load / max(request.at for request in requests)
    return [Request(r.at * factor, r.tokens, r.answer, r.blocks) for r in requests]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--engines", type=int, default=4)
    options = parser.parse_args()
    if not options.trace.exists():
        print(json.dumps({"bench": "routing", "absent": "the trace is not on this machine"}))
        return
    trace = list(read_trace(options.trace))
    alone = [
        Request(r.at, r.tokens, r.answer, [hash((i, block)) for block in r.blocks])
        for i, r in enumerate(trace)
    ]
    for case, requests in (("trace", trace), ("high reuse", high_reuse(trace)), ("no reuse", alone)):
        for load in (0.5, 0.8, 1.0):
            dense = squeezed(requests, options.engines, load)
            figures = {
                policy: Replay(options.engines, policy).run(dense)
                for policy in ("round robin", "least loaded", "least tokens", "prefix aware")
            }
            report(case, load, len(dense), figures)


def report(case: str, load: float, requests: int, figures: dict[str, dict[str, float]]) -> None:
    """Print one line for each policy, the prefix-aware one with what it gains on the least loaded one."""
    for policy, found in figures.items():
        line: dict[str, Any] = {"bench": "routing", "case": case, "load": load, "policy": policy, **found}
        if policy == "prefix aware":
            base = figures["least loaded"]["ttft_mean_ms"]
            line["gain_over_least_loaded_percent"] = round(100 * (1 - found["ttft_mean_ms"] / base), 1)
        print(json.dumps({**line, "requests": requests, "engines": "simulated"}), flush=True)


if __name__ == "__main__":
    main()
