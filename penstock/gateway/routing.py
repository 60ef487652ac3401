"""Which engine of a model takes a request, and who waits while all are full.

Every engine has a price in tokens: what it must still read before it comes to this request, what it would have to
read of this request itself (less the beginning it has kept), and something for every answer that it is writing.
The cheapest one is taken. Without shared beginnings that is the least loaded one. A session stays where it was
unless that has become much dearer. An engine that failed is the last choice for a while that doubles; one that
goes on failing is tried by one request at a time.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from penstock.gateway.fair_queue import FairQueue
from penstock.gateway.prefixes import BLOCK_TOKENS, PrefixIndex

# What one answer in the making costs a new request, in tokens read; found by bench/routing.py.
RUNNING_TOKENS = 64
# A kept beginning may have been given up again, and no engine tells: half of it is believed in (bench/routing.py).
BELIEVED_TOKENS_PER_BLOCK = BLOCK_TOKENS // 2
SESSION_SLACK_TOKENS = 4_096
_SESSIONS_MAX = 16_384
OPEN_AFTER_FAILURES = 3


# Requests of batches take at most this part of an engine's slots, so that others find room at once.
BATCH_SLOTS_PERCENT = 50


def spare(engine: "Engine") -> int:
    """Return up to how many requests in flight an engine takes those of batches."""
    return max(1, engine.slots * BATCH_SLOTS_PERCENT // 100)


class Engine(Protocol):
    """An engine as routing sees it."""

    in_flight: int
    pending_tokens: int  # of prompts that it has been sent and not begun to answer
    down_until: float
    failures: int  # in a row

    @property
    def slots(self) -> int:
        """Return how many requests it takes at a time."""
        ...


E = TypeVar("E", bound=Engine)
W = TypeVar("W")


class Router(Generic[E, W]):
    """The engines of one model, what they have kept, and the requests that wait for them."""

    def __init__(self, *, blocks_max: int, queue_max: int, gone: Callable[[W], bool]) -> None:
        self.engines: tuple[E, ...] = ()
        self.prefixes = PrefixIndex(blocks_max)
        self.queue: FairQueue[W] = FairQueue(queue_max, gone)
        self.beside: tuple[
            Router[E, W], ...
        ] = ()  # others that have some of these engines, and a line of their own
        self._last_turn = 0
        self._numbers: dict[E, int] = {}
        self._sessions: OrderedDict[str, E] = OrderedDict()
        self._turn = 0

    @property
    def several(self) -> bool:
        """Tell whether there is a choice."""
        return len(self.engines) > 1

    @property
    def may_serve(self) -> bool:
        """Tell whether somebody waits for whom an engine has room."""
        if not self.queue:
            return False
        idle = self.queue.only_batches
        return any(engine.in_flight < (spare(engine) if idle else engine.slots) for engine in self.engines)

    def next_waiting(self) -> W | None:
        """Take out whose turn it is among all that wait for these engines; lines beside each other take turns."""
        lines = [one for one in (self, *self.beside) if one.may_serve]
        while lines:
            line = min(lines, key=lambda one: one._last_turn)  # noqa: SLF001 - of the same class
            line._last_turn = 1 + max(one._last_turn for one in (line, *line.beside))  # noqa: SLF001 - so is this
            found = line.queue.pop()
            if found is not None:
                return found
            lines.remove(line)
        return None

    def update(self, engines: tuple[E, ...]) -> None:
        """Take over the engines of a new snapshot; what is known of those that stay is kept."""
        for engine in [engine for engine in self._numbers if engine not in engines]:
            self.prefixes.forget(self._numbers.pop(engine))
        for engine in engines:
            if engine not in self._numbers:
                taken = set(self._numbers.values())
                self._numbers[engine] = next(n for n in range(len(taken) + 1) if n not in taken)
        self._sessions = OrderedDict((name, e) for name, e in self._sessions.items() if e in self._numbers)
        self.engines = engines

    def choose(
        self,
        now: float,
        *,
        tried: Sequence[E] = (),
        tokens: int = 0,
        blocks: Sequence[int] = (),
        session: str = "",
    ) -> E | None:
        """Return the engine for a request of ``tokens`` prompt tokens; None if none has a free slot."""
        if len(self.engines) == 1:
            only = self.engines[0]
            return None if only in tried or only.in_flight >= only.slots else only
        kept = self.prefixes.matched(blocks) if blocks else {}
        best: E | None = None
        rank: tuple[bool, int, int, int] = (False, 0, 0, 0)
        held: tuple[bool, int] | None = None
        at_home = self._sessions.get(session) if session else None
        turn = self._turn
        self._turn += 1
        for place, engine in enumerate(self.engines):
            if engine.in_flight >= engine.slots or engine in tried:
                continue
            saved = min(tokens, kept.get(self._numbers[engine], 0) * BELIEVED_TOKENS_PER_BLOCK) if kept else 0
            price = engine.pending_tokens + tokens - saved + RUNNING_TOKENS * engine.in_flight
            down = engine.down_until > now or (
                engine.failures >= OPEN_AFTER_FAILURES and engine.in_flight > 0
            )
            own = (down, price, engine.in_flight, (place - turn) % len(self.engines))
            if engine is at_home:
                held = down, price
            if best is None or own < rank:
                best, rank = engine, own
        if held is not None and held[0] <= rank[0] and held[1] <= rank[1] + SESSION_SLACK_TOKENS:
            return at_home
        return best

    def saved_tokens(self, engine: E, blocks: Sequence[int]) -> int:
        """Return about how many tokens of a prompt an engine has kept."""
        return self.prefixes.matched(blocks).get(self._numbers.get(engine, -1), 0) * BELIEVED_TOKENS_PER_BLOCK

    def sent(self, engine: E, blocks: Sequence[int], session: str) -> None:
        """Remember what an engine was sent."""
        if engine not in self._numbers:
            return
        if blocks:
            self.prefixes.add(blocks, self._numbers[engine])
        if session:
            self._sessions[session] = engine
            self._sessions.move_to_end(session)
            if len(self._sessions) > _SESSIONS_MAX:
                self._sessions.popitem(last=False)


def note_beside(routers: Sequence[Router[E, W]]) -> None:
    """Tell each router which others have some of its engines."""
    having: dict[E, list[Router[E, W]]] = {}
    for router in routers:
        for engine in router.engines:
            having.setdefault(engine, []).append(router)
    for router in routers:
        others = dict.fromkeys(other for engine in router.engines for other in having[engine])
        router.beside = tuple(other for other in others if other is not router)


def failed(engine: Engine, now: float, first_seconds: float, most_seconds: float) -> None:
    """Count a failure: the engine is avoided for a while that doubles with each in a row."""
    engine.failures += 1
    engine.down_until = now + min(most_seconds, first_seconds * (1 << min(engine.failures - 1, 16)))


def answered(engine: Engine) -> None:
    """Count a sign of life."""
    engine.failures = 0
    engine.down_until = 0.0
