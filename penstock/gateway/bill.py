"""What one request will be billed: counted while it runs, written once, whatever its ending."""

import asyncio
from collections.abc import Sequence

from penstock.gateway.body import Ask, prompt_tokens_estimate
from penstock.gateway.core import Core
from penstock.gateway.directory import Key, Model
from penstock.gateway.limits import Reservation
from penstock.gateway.records import Usage, record_line
from penstock.gateway.sse import Carried, Meter
from penstock.gateway.upstream import Upstream


class Bill:
    """The part of a request in flight that becomes its record."""

    _core: Core
    key: Key
    model: Model
    ask: Ask
    record_id: str
    _started_us: int
    _reservation: Reservation | None

    # Defaults of the class, not of each instance: most requests never touch them.
    _engine: Upstream | None = None
    _meter: Meter | None = None
    _finished = False
    _leaving: str | None = None
    _cut = False
    _clients_fault = False  # the engine refused the request itself
    _first_us = 0
    _reported = 0
    _usage = Usage(0, 0, estimated=False)  # read only; replaced, never changed
    _timers: tuple[asyncio.TimerHandle, ...] = ()
    _tokens = 0  # of the prompt, estimated, where there are engines to choose from
    _blocks: Sequence[int] = ()
    _pending = 0  # of these, what the engine has still to read
    _carried: Carried | None = None  # what engines that are lost have written of the stream
    _held = 0  # bytes, while it waits for a replica to start
    _expected = 0

    def progress(self, *, only_news: bool) -> bytes:
        """Return the journal line of what a stream has generated so far; empty if nothing (new)."""
        meter = self._meter
        if meter is None or self._finished or not self.key.entry.metered:
            return b""
        tokens = meter.completion_tokens + meter.since
        if not tokens or (only_news and tokens == self._reported):
            return b""
        self._reported = tokens
        return self._line(self._used(), "error", running=True)

    def _prompt_estimate(self) -> int:
        """Return a prompt estimate for billing: rather low, where the reservation's is rather high."""
        return max(1, prompt_tokens_estimate(self.ask) // 2)

    def _used(self) -> Usage:
        """Return what was used until now."""
        meter, told = self._meter, self._usage
        prompt, completion, estimated = told.prompt, told.completion, told.estimated
        if meter is not None:
            prompt, completion, estimated = (
                meter.prompt_tokens,
                meter.completion_tokens + meter.since,
                not meter.exact,
            )
            if not meter.usage_seen and meter.content_seen:
                prompt = self._prompt_estimate()
        elif self._carried is not None:  # and the next engine has not begun
            carried = self._carried
            prompt, completion = carried.prompt or self._prompt_estimate(), carried.completion
            estimated = not (carried.exact and carried.prompt)
        elif not self._cut:
            return told
        return Usage(prompt, completion, estimated=estimated or self._cut)

    def _line(self, usage: Usage, ending: str, *, running: bool = False) -> bytes:
        engine = self._engine
        return record_line(
            (self.key.part, self.model.part, engine.part if engine is not None else b'""'),
            usage,
            identity=self.record_id.encode(),
            ending=ending,
            times_us=(self._started_us, self._first_us, self._core.now_us()),
            streamed=self.ask.stream,
            running=running,
        )

    def _finish(self, ending: str) -> None:
        """Write the record, settle the reservation, count. Only the first call does anything."""
        if self._finished:
            return
        self._finished = True
        for timer in self._timers:
            timer.cancel()
        if self._held:
            self._let_go()
        usage = self._used()
        total = usage.prompt + usage.completion
        stats = self.model.stats
        stats.in_flight -= 1
        if total:
            if self.key.entry.metered:
                self._write(usage, ending)
            stats.prompt_tokens += usage.prompt
            stats.completion_tokens += usage.completion
            stats.estimated += usage.estimated
        stats.endings[ending] = stats.endings.get(ending, 0) + 1
        self._judge(usage, failed=ending in ("error", "engine_lost") and not self._clients_fault)
        if self._meter is not None:
            stats.unreadable_events += self._meter.unreadable
        if self._reservation is not None:
            self._reservation.settle(self._core.instant(), usage.prompt, usage.completion)
        self._release_engine()

    def _write(self, usage: Usage, ending: str) -> None:
        """Write the record into the journal, and count what the control plane does not know yet."""
        if self._core.journal is not None:
            self._core.journal.append(self._line(usage, ending))
        self.key.tenant.recorded(usage.prompt + usage.completion)
        self.model.owner.recorded(usage.prompt + usage.completion)

    def _judge(self, usage: Usage, *, failed: bool) -> None:
        """Count for the key, and for what the endpoint promises."""
        own, stats, first_us = self.key.stats, self.model.stats, self._first_us
        own.requests += 1
        own.failed += failed
        own.prompt_tokens += usage.prompt
        own.completion_tokens += usage.completion
        waited_us = token_us = 0
        if first_us:
            waited_us = first_us - self._started_us
            own.ttft_count += 1
            own.ttft_sum_us += waited_us
            if usage.completion > 1:
                token_us = (self._core.now_us() - first_us) // (usage.completion - 1)
                stats.token_time(token_us)
        promised = stats.objective
        if promised.any:
            late = bool(promised.ttft_us) and waited_us > promised.ttft_us
            slow = bool(promised.token_us) and token_us > promised.token_us
            stats.burn.count(self._core.instant().second // 60, late=late, slow=slow, failed=failed)

    def expected(self) -> tuple[str, int]:
        """Return the service it asks and the tokens that it may take there: its prompt and what the answer may grow to."""
        if not self._expected:
            bound = self.ask.completion_tokens or self._core.settings.completion_tokens_default
            answer = bound * self.ask.choices if self.ask.kind.generates else 0
            self._expected = prompt_tokens_estimate(self.ask) + answer
        return self.model.entry.service, self._expected

    def _let_go(self) -> None:
        """Take note that its bytes wait no more."""
        self._core.held_bytes -= self._held
        self._held = 0

    # The engine's slot.

    def _prompt_is_read(self) -> None:
        if self._pending and self._engine is not None:
            self._engine.pending_tokens -= self._pending
            self._pending = 0

    def _release_engine(self) -> None:
        """Give the slot back, and let those who wait for one have it."""
        engine = self._engine
        if engine is None:
            return
        self._prompt_is_read()
        engine.in_flight -= 1
        self._engine = None
        router = self.model.router
        if router.queue or router.beside:
            self.model.serve_queue()
