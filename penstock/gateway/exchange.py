"""One admitted request from the choice of an engine to its usage record.

The rules, in the order in which they bind:
- The record is in the journal before the client has its last byte.
- What is billed is what the engine says it generated. Only where an engine cannot say (no usage, or cut
  off) are content events counted and the record marked ``estimated``.
- A client that leaves stops its engine: by ``/internal/cancel`` where the engine has it, and then the
  gateway reads on to the final usage; by closing the connection for writing where not, and reading what
  the engine wrote until it noticed. Either is bounded in time, the second in pieces too.
- Another engine is tried only while the client has seen nothing.
- Where the number of replicas follows the load and there is none, requests are held while one starts.
"""

import orjson

from penstock.gateway import openai_errors as errors
from penstock.gateway.body import (
    COMPLETION,
    Ask,
    answer_facts,
    beginning,
    engine_refusal,
    parse_answer,
    prompt_tokens_estimate,
    stated_usage,
)
from penstock.gateway.continuation import body_of, carried_from, may_continue, text_so_far
from penstock.gateway.core import ClientSide, Core
from penstock.gateway.directory import Key, Model
from penstock.gateway.fair_queue import BATCH
from penstock.gateway.giving_way import crowded, make_room
from penstock.gateway.leaving import Leaving
from penstock.gateway.limits import Reservation
from penstock.gateway.openai_errors import ApiError
from penstock.gateway.prefixes import blocks_of
from penstock.gateway.records import Usage, ending_of
from penstock.gateway.routing import answered, failed
from penstock.gateway.sse import DONE, Meter
from penstock.gateway.upstream import Upstream, UpstreamConnection

_COMPLETE_AFTER_DONE_SECONDS = 5.0
_ELSEWHERE = (429, 502, 503, 504)  # another engine may do better; on a 500 it would do the same
_DEATHS_MAX = 2


def _full(what: str) -> ApiError:
    return errors.unavailable(
        "engine_overloaded", f"{what}; try again in a few seconds.", retry_after_seconds=2
    )


class Exchange(Leaving):
    """A request in flight."""

    # Defaults of the class, not of each instance: most requests never touch them.
    _tried: tuple[Upstream, ...] = ()
    _parts: list[bytes] | None = None
    _size = 0
    _status = 0
    _deaths = 0
    _queued_us = 0
    _got_body = False
    _begun = False

    def __init__(
        self,
        core: Core,
        client: ClientSide,
        key: Key,
        model: Model,
        ask: Ask,
        *,
        body: bytes,
        reservation: Reservation | None,
        priority: str = "normal",
        session: str = "",
    ) -> None:
        self._core = core
        self.client: ClientSide | None = client
        self.key = key
        self.model = model
        self.ask = ask
        self._body = body
        self._reservation = reservation
        self.priority = priority
        self._session = session
        self._started_us = core.now_us()
        self.record_id = core.ids.next(self._started_us)
        self._started = self._touched = core.now

    # Towards the engine.

    def start(self) -> None:
        """Send the request to an engine, or let it wait for one."""
        self._core.in_flight.add(self)
        self.model.stats.in_flight += 1
        if self.model.router.several:
            self._tokens = prompt_tokens_estimate(self.ask)
            self._blocks = blocks_of(beginning(self.ask))
        queue = self.model.router.queue
        if queue and (self.priority == BATCH or not queue.only_batches):
            self._wait_or_hold()  # behind those who came before
        else:
            self._next_engine()

    def _choose(self) -> Upstream | None:
        router = self.model.router
        return router.choose(
            self._core.now,
            tried=self._tried + crowded(self.priority, router.engines),
            tokens=self._tokens,
            blocks=self._blocks,
            session=self._session,
        )

    def _next_engine(self) -> None:
        engine = self._choose() if len(self._tried) < self._core.settings.attempts_max else None
        if engine is not None:
            self._send_to(engine)
        elif any(own not in self._tried for own in self.model.router.engines) and not self._tried:
            self._wait()
        elif self.model.entry.elastic and not self.model.router.engines and not self._tried:
            self._wait_or_hold()
        else:
            what = "could be reached" if self.model.router.engines else "is running"
            message = f"No engine of the model '{self.model.name}' {what}; try again in a second."
            self._refuse(errors.unavailable("engine_unavailable", message))

    def _send_to(self, engine: Upstream) -> None:
        router = self.model.router
        self._engine = engine
        engine.in_flight += 1
        if self._tokens:
            self._pending = max(1, self._tokens - router.saved_tokens(engine, self._blocks))
            engine.pending_tokens += self._pending
            router.sent(engine, self._blocks, self._session)
        connection = engine.idle_connection()
        if connection is None:
            self._dialling = engine.dial(self._connected, self._not_connected)
        else:
            self._connected(connection)

    def _wait_or_hold(self) -> None:
        """Wait for a slot, or for the first replica of an endpoint that sleeps: the control plane is told at once."""
        core = self._core
        if self.model.router.engines or not self.model.entry.elastic:
            self._wait()
            return
        if core.held_bytes + len(self._body) > core.settings.hold_bytes_max:
            self._refuse(_full("Too many requests wait for a replica to start"))
            return
        self._held = len(self._body)
        core.held_bytes += self._held
        self._wait()
        if core.demand is not None and not self._finished:
            core.demand()

    def _wait(self) -> None:
        """Wait for a slot, in fairness to other tenants; refused at once when too many do."""
        self._queued_us = self._core.now_us()
        key, tokens = self.key, self.expected()[1]
        loser = self.model.router.queue.put(self, key.entry.tenant, self.priority, tokens, key.weight)
        if loser is not None:
            loser.no_place()
        if loser is not self:
            self.model.serve_queue()  # all who waited before may be gone
            if self._queued_us and self.priority != BATCH:
                make_room(self._core.in_flight, self.model.router)

    def give_way(self) -> None:
        """End without an answer, for a request that cannot wait; whoever asked asks again."""
        self._abandon("cancelled", _full("This request made room for others"))

    @property
    def gone(self) -> bool:
        """Tell whether this request no longer waits: its client left, or it waited too long."""
        return self._finished

    def no_place(self) -> None:
        """End: too many wait, and this one would be the last of them."""
        self._refuse(_full("Too many requests wait for the engines of this model"))

    def take_turn(self) -> None:
        """Go to an engine now, after waiting."""
        self.model.stats.waited(self._core.now_us() - self._queued_us)
        self._queued_us = 0
        self._touched = self._core.now
        if self._held:
            self._let_go()
        self._next_engine()

    def _connected(self, connection: UpstreamConnection) -> None:
        self._dialling = None
        engine = self._engine
        if self._finished or engine is None:
            connection.upstream.release(connection)
            return
        self._connection = connection
        self._touched = self._core.now
        connection.request(self, engine.message(self.ask.kind.path, self.record_id, self._body))
        if self.client is not None and self.client.paused_since is not None:
            connection.pause()

    def _not_connected(self, reason: str) -> None:
        self._dialling = None
        self.upstream_lost(reason, reused=False)

    # From the engine.

    def upstream_head(self, status: int, *, event_stream: bool) -> None:
        """Take the engine's status and decide how its body is read."""
        self._status = status
        if self._engine is not None and self._engine.failures and status < 500:
            answered(self._engine)
        if status == 200 and event_stream and self.ask.stream:
            ask = self.ask
            self._meter = Meter(
                self.model.name,
                include_usage=ask.include_usage,
                continuous=ask.continuous,
                choices=ask.choices,
                event_bytes_max=self._core.settings.event_bytes_max,
                keep_text=self.model.router.several and may_continue(ask),
                carried=self._carried,
            )

    def upstream_body(self, data: bytes) -> None:
        """Count and pass on a piece of a stream, or keep a piece of a whole answer."""
        self._touched = self._core.now
        self._got_body = True
        meter = self._meter
        if meter is None:
            self._keep_part(data)
            return
        if self._finished:
            return
        out = meter.feed(data)
        if meter.content_seen and not self._first_us:
            self._first_us = self._core.now_us()
            self._prompt_is_read()
            self.model.stats.first_token(self._first_us - self._started_us)
        if meter.done:
            self._end_of_events(meter, out + DONE)
        elif meter.overflow:
            self._broken(errors.engine_failed("engine_broken", "The engine sent an endless event."))
        elif self._pieces_left is not None:
            self._pieces_left -= 1
            if self._pieces_left <= 0:
                self._give_up()
        elif out and self.client is not None:
            if not self._begun:
                self._begin()
            self.client.send(out)

    def upstream_chunks(self, data: bytes) -> bytes:
        """Pass on the chunks of which a stream nearly always consists, and return what is left for the parser."""
        meter, client = self._meter, self.client
        if meter is None or client is None or not self._first_us:
            return data
        out, rest = meter.take(data)
        if out:
            self._touched = self._core.now
            client.send_chunks(out)
        return rest

    def _keep_part(self, data: bytes) -> None:
        self._size += len(data)
        if self._parts is None:
            self._parts = []
        self._parts.append(data)
        if self._size > self._core.settings.answer_bytes_max:
            self._broken(errors.engine_failed("engine_broken", "The engine's answer is too large."))

    def _begin(self) -> None:
        self._begun = True
        self.model.stats.answered(200)
        if self.client is not None:
            self.client.begin_stream(self._headers())

    def _headers(self) -> bytes:
        line = b"x-request-id: %b\r\n" % self.record_id.encode()
        own = self.key.own
        return line if own is None else line + own.headers()

    def _end_of_events(self, meter: Meter, last: bytes) -> None:
        if self.ask.include_usage and not meter.final_usage and not meter.error_seen:
            last = last[: -len(DONE)] + meter.usage_event(self._used()) + DONE
        self._finish(self._leaving or ("error" if meter.error_seen else ending_of(meter.finish_reason)))
        client, self.client = self.client, None
        if client is not None:
            if not self._begun:
                self._begun = True
                self.model.stats.answered(200)
                client.begin_stream(self._headers())
            client.end_stream(last, close=False)

    def upstream_complete(self) -> None:
        """Take the end of the engine's answer; its connection is back in the pool."""
        self._connection = None
        if self._finished:
            self._core.in_flight.discard(self)
            return
        if self._meter is not None:
            # The connection ended well but the stream did not say so: the client must not take it for whole.
            if self._engine is not None and self.client is not None and self._go_on(self._engine):
                return
            self._lost(errors.engine_failed("engine_broken", "The engine ended the stream early."))
            return
        body = b"".join(self._parts or ())
        self._parts = None
        if self._status != 200:
            self._engine_refused(body)
            return
        answer = parse_answer(body)
        if answer is None or not isinstance(answer.get(self.ask.kind.answer_field), list):
            self._refuse(errors.engine_failed("engine_broken", "The engine answered nonsense; try again."))
            return
        self._whole_answer(answer, body)

    def _whole_answer(self, answer: dict[str, object], body: bytes) -> None:
        usage, reason = answer_facts(answer)
        changed = usage is None
        if usage is None:
            completion = max(1, len(body) // 8) if self.ask.kind.generates else 0
            usage = Usage(self._prompt_estimate(), completion, estimated=True)
            answer["usage"] = stated_usage(usage)
        self._usage = usage
        if answer.get("model", self.model.name) != self.model.name:
            answer["model"] = self.model.name
            changed = True
        self._finish(self._leaving or ending_of(reason or "stop"))
        self._reply(200, orjson.dumps(answer) if changed else body)

    def _reply(self, status: int, body: bytes) -> None:
        self._core.in_flight.discard(self)
        client, self.client = self.client, None
        if client is not None:
            self.model.stats.answered(status)
            client.reply(status, body, self._headers())

    def _engine_refused(self, body: bytes) -> None:
        engine = self._engine
        if self._status in _ELSEWHERE and engine is not None and self.client is not None:
            self._tried += (engine,)
            if self._choose() is not None:
                self._again()
                return
        refusal = engine_refusal(self._status, body)
        self._clients_fault = refusal.status < 500
        self._refuse(refusal)

    def upstream_lost(self, reason: str, *, reused: bool) -> None:
        """Try another engine while the client has seen nothing; else end the answer as lost.

        A request that two engines did not survive is not given to a third: it may be what they died of.
        """
        asked = self._connection is not None
        self._connection = None
        if self._finished:
            self._core.in_flight.discard(self)
            return
        engine = self._engine
        if engine is not None and self.client is not None and not self._got_body:
            if not reused:  # a kept connection that the engine had closed says nothing about the engine
                self._tried += (engine,)
                settings = self._core.settings
                failed(
                    engine, self._core.now, settings.engine_down_seconds, settings.engine_down_most_seconds
                )
                self._deaths += asked
            if self._deaths < _DEATHS_MAX:
                self._again()
                return
        if engine is not None and self.client is not None and self._go_on(engine):
            return
        self._lost(errors.engine_failed("engine_lost", f"The engine was lost while it answered ({reason})."))

    def _go_on(self, engine: Upstream) -> bool:
        """Continue a stream at another engine; tell whether that is possible. Nothing that was sent is sent again."""
        meter = self._meter
        text = text_so_far(meter) if meter is not None and self._begun else None
        if meter is None or text is None or self._deaths >= _DEATHS_MAX:
            return False
        carried = carried_from(meter)
        body = body_of(self.ask, self._body, text, carried.completion - self._carried_tokens())
        self._tried += (engine,)
        settings = self._core.settings
        failed(engine, self._core.now, settings.engine_down_seconds, settings.engine_down_most_seconds)
        other = self._choose()
        if body is None or other is None or not (other.entry.continues or self.ask.kind is COMPLETION):
            return False
        self._carried, self._body = carried, body
        self._deaths += 1
        self._core.metrics.continued += 1
        self._again()
        return True

    def _carried_tokens(self) -> int:
        return 0 if self._carried is None else self._carried.completion

    def _again(self) -> None:
        self._core.metrics.retries += 1
        self._release_engine()
        self._meter = None
        self._status = 0
        self._got_body = False
        self._next_engine()

    def _lost(self, error: ApiError) -> None:
        self._finish(self._leaving or "engine_lost")
        self._core.in_flight.discard(self)
        self._tell(error)

    def _refuse(self, error: ApiError) -> None:
        self._queued_us = 0
        self._finish(self._leaving or "error")
        self._core.in_flight.discard(self)
        self._tell(error)

    def _tell(self, error: ApiError) -> None:
        """Report a failure to a client that still waits."""
        client, self.client = self.client, None
        if client is None:
            return
        if self._begun:
            client.end_stream(error.event(), close=True)
        else:
            self.model.stats.answered(error.status)
            client.reply_error(error, self._headers())

    def _broken(self, error: ApiError) -> None:
        """Cut off an engine that misbehaves; it is not asked to cancel, it would not listen."""
        self._tell(error)
        self._leaving = self._leaving or "error"
        self._cut_off()

    # From the client.

    def client_paused(self) -> None:
        """Stop reading from the engine while the client does not read."""
        if self._connection is not None:
            self._connection.pause()

    def client_resumed(self) -> None:
        """Read on."""
        self._touched = self._core.now
        if self._connection is not None:
            self._connection.resume()

    def client_gone(self) -> None:
        """Stop the engine and bill what it generated."""
        self.client = None
        if not self._finished:
            if not self._begun:
                self.model.stats.answered(499)
            self._leave("disconnect")

    def _abandon(self, ending: str, error: ApiError) -> None:
        self._tell(error)
        if not self._finished:
            self._leave(ending)

    # From the periodic tasks.

    def check(self, now: float) -> None:
        """End what is over one of its time limits."""
        settings = self._core.settings
        silent = now - self._touched
        if self._queued_us:
            if silent > (settings.hold_seconds if self._held else settings.queue_seconds):
                late = (
                    "No replica of this model started"
                    if self._held
                    else "No engine of this model became free"
                )
                self._refuse(_full(f"{late} in time"))
            return
        if self._finished:
            if silent > _COMPLETE_AFTER_DONE_SECONDS:
                self._cut_off()
            return
        client = self.client
        if client is not None and client.paused_since is not None:
            if now - client.paused_since > settings.stall_seconds:
                client.drop()
            return
        if self._leaving is None and (
            silent > settings.engine_idle_seconds or now - self._started > settings.request_seconds
        ):
            self._abandon(
                "error", errors.engine_failed("engine_timeout", "The engine did not answer in time.", 504)
            )

    def stop(self) -> None:
        """End at once, because the process ends."""
        if not self._finished and self._leaving is None:
            self._abandon(
                "cancelled",
                errors.unavailable("shutting_down", "The gateway stops; send it again.", close=True),
            )
