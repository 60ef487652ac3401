"""What is served where: models, completions, health and metrics, and who may have them."""

import hashlib
import hmac
from collections.abc import Mapping

import orjson

from penstock import __version__
from penstock.gateway import openai_errors as errors
from penstock.gateway import wire
from penstock.gateway.body import KINDS, RERANK, Ask, Kind, for_engine, parse, prompt_tokens_estimate
from penstock.gateway.client import ClientConnection
from penstock.gateway.core import Core
from penstock.gateway.directory import Key, Model
from penstock.gateway.exchange import Exchange
from penstock.gateway.fair_queue import WEIGHTS
from penstock.gateway.knowledge import SUFFIX, CitedExchange, Retrieval
from penstock.gateway.limits import Refused, Reservation, Scope, admit, overspent
from penstock.gateway.metrics import Board, Family, families, render
from penstock.gateway.request import Request

_KINDS = {b"/v1" + kind.path: kind for kind in KINDS} | {b"/rerank": RERANK, b"/v2/rerank": RERANK}


class App:
    """The routes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.board: Board | None = None  # of several processes
        self.process = 0

    def handle(self, client: ClientConnection, request: Request) -> None:
        """Answer one request, now or when there is news of its key or model; raises ApiError."""
        try:
            self._route(client, request)
        except errors.ApiError as error:
            if not self._core.newcomers.hold(client, request, error):
                raise

    def _route(self, client: ClientConnection, request: Request) -> None:
        path = request.target
        kind = _KINDS.get(path)
        if kind is None:
            path = path.partition(b"?")[0]
            kind = _KINDS.get(path)
        if kind is not None:
            if request.method != b"POST":
                raise errors.wrong_method("POST")
            self._complete(client, request, kind)
        elif path == b"/v1/models":
            self._models(client, request)
        elif path.startswith(b"/v1/models/"):
            self._model(client, request, path[11:].decode("utf-8", "replace"))
        elif path == b"/healthz":
            self._health(client, request)
        elif path == b"/metrics":
            self._metrics(client, request)
        else:
            raise errors.no_route(path.decode("utf-8", "replace"))

    # Who.

    def _key(self, client: ClientConnection, request: Request) -> Key:
        """Return the caller's key; raises ApiError.

        The digest is looked up in a dictionary. That is safe against timing: what is compared is the SHA-256
        of the secret, of which an attacker can choose no prefix without inverting the hash.
        """
        header = request.authorization
        directory = self._core.directory
        seen = client.looked_up
        if seen is not None and seen[0] is directory.keys and seen[1] == header:
            key = seen[2]  # this version of the directory was asked for it before, on this connection
            if key.expires_at_us is None or key.expires_at_us > self._core.now_us():
                return key
        if header[:7].lower() != b"bearer ":
            raise errors.missing_key()
        digest = hashlib.sha256(header[7:].strip()).digest()
        key = directory.keys.get(digest)
        if key is None:
            if directory.version is None:
                raise errors.unavailable(
                    "not_ready", "The gateway has no configuration yet; try again in a second."
                )
            raise errors.revoked_key() if digest in directory.gone else errors.invalid_key()
        if key.expires_at_us is not None and key.expires_at_us <= self._core.now_us():
            raise errors.invalid_key()
        if not key.usable:
            raise errors.missing_scope()
        client.looked_up = directory.keys, header, key
        return key

    # Completions.

    def _complete(self, client: ClientConnection, request: Request, kind: Kind) -> None:
        core = self._core
        key = self._key(client, request)
        if core.draining:
            raise errors.unavailable(
                "shutting_down", "The gateway stops; send the request again.", close=True
            )
        ask = parse(request.body, kind)
        model = key.models.get(ask.model)
        if model is None or model.entry.knowledge_base:
            self._ground(client, request, key, ask)
            return
        self._admitted(client, request, key, model, ask)

    def _ground(self, client: ClientConnection, request: Request, key: Key, ask: Ask) -> None:
        """Find what a knowledge base says first, if the model's name ends in one or it has one; raises ApiError."""
        name, _, knowledge_base = ask.model.partition(SUFFIX)
        model = key.models.get(name)
        groundings = self._core.groundings
        if model is not None and name == ask.model:
            knowledge_base = model.entry.knowledge_base  # of a service that is one
        if model is None or not knowledge_base or groundings is None:
            raise errors.model_not_found(ask.model)
        payers = tuple(scope for scope in key.scopes + model.scopes if scope.kind != "model")
        refused = overspent(payers, self._core.instant())
        if refused is not None:  # the search costs something before a token is reserved
            self._refuse(client, key, model, refused)
            return

        def found(grounding: Mapping[str, object]) -> None:
            self._admitted(client, request, key, model, ask, grounding)

        retrieval = Retrieval(self._core, client, ask, payers, found)
        retrieval.start(
            groundings, key_id=key.entry.id, service_id=model.entry.service, knowledge_base=knowledge_base
        )
        client.exchange = retrieval

    def _admitted(
        self,
        client: ClientConnection,
        request: Request,
        key: Key,
        model: Model,
        ask: Ask,
        grounding: Mapping[str, object] | None = None,
    ) -> None:
        """Reserve what a request may use and start it; raises ApiError."""
        core = self._core
        if core.journal is not None and not core.journal.can_serve:
            message = "Usage cannot be recorded right now, so nothing is served; the operator must look at the disk."
            raise errors.unavailable("metering_unavailable", message, retry_after_seconds=10)
        # The estimate reads the messages as the client sent them: before they are written again.
        body = for_engine(ask, model.entry.model, plain=model.entry.plain)
        scopes = key.scopes + model.scopes
        reservation: Reservation | None = None
        if scopes:
            held = self._admit(ask, model, scopes)
            if isinstance(held, Refused):
                self._refuse(client, key, model, held)
                return
            reservation = held
        kind = Exchange if grounding is None else CitedExchange
        exchange = kind(
            core,
            client,
            key,
            model,
            ask,
            body=body,
            reservation=reservation,
            priority=_priority(key, model, request),
            session=_session(key, request, ask) if model.router.several else "",
        )
        if isinstance(exchange, CitedExchange):
            exchange.grounding = grounding or {}
        client.exchange = exchange
        exchange.start()

    def _refuse(self, client: ClientConnection, key: Key, model: Model, refused: Refused) -> None:
        self._core.metrics.limit(refused.reason)
        model.stats.answered(429)
        key.stats.limited += 1
        client.reply_error(_limited(refused, key))

    def _admit(self, ask: Ask, model: Model, scopes: tuple[Scope, ...]) -> Reservation | Refused:
        core = self._core
        stated = ask.completion_tokens is not None or not ask.kind.generates
        bound = ask.completion_tokens or core.settings.completion_tokens_default
        return admit(
            core.table,
            scopes,
            core.instant(),
            prompt_tokens_estimate(ask),
            bound * ask.choices if ask.kind.generates else 0,
            stated=stated,
            price=model.entry.price,
        )

    # Models.

    @staticmethod
    def _described(model: Model) -> dict[str, object]:
        return {"id": model.name, "object": "model", "created": 0, "owned_by": model.entry.project}

    def _models(self, client: ClientConnection, request: Request) -> None:
        _only_get(request)
        models = self._key(client, request).models
        data = [self._described(models[name]) for name in sorted(models)]
        client.reply(200, orjson.dumps({"object": "list", "data": data}))

    def _model(self, client: ClientConnection, request: Request, name: str) -> None:
        _only_get(request)
        model = self._key(client, request).models.get(name)
        if model is None:
            raise errors.model_not_found(name)
        client.reply(200, orjson.dumps(self._described(model)))

    # Health.

    def _health(self, client: ClientConnection, request: Request) -> None:
        _only_get(request)
        core = self._core
        version = core.directory.version
        journal = core.journal
        if core.draining:
            status = "draining"
        elif version is None:
            status = "starting"
        elif journal is not None and not journal.can_serve:
            status = "metering_unavailable"
        else:
            status = "ok"
        age = None if core.confirmed_at is None else round(max(0.0, core.loop.time() - core.confirmed_at), 3)
        document = {
            "status": status,
            "version": __version__,
            "snapshot_version": version,
            "snapshot_age_seconds": age,
            "in_flight": len(core.in_flight),
            "journal_backlog_bytes": journal.backlog_bytes if journal is not None else 0,
        }
        client.reply(200 if status == "ok" else 503, orjson.dumps(document))

    def _metrics(self, client: ClientConnection, request: Request) -> None:
        """Metrics name every tenant's models: for this machine, or with the gateway's own token."""
        _only_get(request)
        core = self._core
        if not client.is_local:
            digest = hashlib.sha256(request.authorization[7:].strip()).digest()
            if core.operator_digest is None or not hmac.compare_digest(digest, core.operator_digest):
                raise errors.missing_key()
        shown = self.board.all() if self.board is not None else {}
        shown[str(self.process) if self.board is not None else ""] = self.families()
        client.reply(200, render(shown), content_type=wire.TEXT)

    def families(self) -> list[Family]:
        """Return what this process counted."""
        core = self._core
        journal = core.journal
        gauges: dict[str, float] = {
            "connections": core.metrics.connections,
            "requests_held_for_news": len(core.newcomers),
            "journal_backlog_bytes": journal.backlog_bytes if journal is not None else 0,
            "journal_sealed_segments": journal.sealed_count if journal is not None else 0,
            "snapshot_version": core.directory.version or 0,
            "limit_table_full": int(core.table.full),
        }
        if core.confirmed_at is not None:
            gauges["snapshot_age_seconds"] = round(max(0.0, core.loop.time() - core.confirmed_at), 3)
        return families(
            core.metrics,
            core.directory.stats.values(),
            gauges,
            keys=core.directory.key_stats.values(),
            minute=core.instant().second // 60,
        )


def _priority(key: Key, model: Model, request: Request) -> str:
    """Return the class in which a request waits: the key's, else the model's, or a lower one that it asks for."""
    own = key.entry.priority or model.entry.priority or "normal"
    if not request.priority:
        return own
    asked = request.priority.decode("latin-1").lower()
    return asked if WEIGHTS.get(asked, WEIGHTS[own]) < WEIGHTS[own] else own


def _session(key: Key, request: Request, ask: Ask) -> str:
    """Return the name of a session that should stay on one engine, within its tenant; empty for none."""
    named = request.session.decode("latin-1") or ask.document.get("prompt_cache_key")
    return f"{key.entry.tenant}/{named[:256]}" if isinstance(named, str) and named else ""


def _only_get(request: Request) -> None:
    if request.method not in (b"GET", b"HEAD"):
        raise errors.wrong_method("GET")


def _limited(refused: Refused, key: Key) -> errors.ApiError:
    """Return the 429 of a request that was not admitted: whose limit, how much of it is free, and what to do."""
    headers = key.own.headers() if key.own is not None else b""
    seconds, whose = refused.retry_after_seconds, refused.scope
    free = max(0, refused.limit)
    if refused.reason in ("quota", "day", "month"):
        what = {
            "quota": f"monthly tokens are spent: {free} are free, this request needs up to {refused.asked}",
            "day": f"tokens of the day are spent: {free} are free, this request needs up to {refused.asked}",
            "month": f"money of the month is spent: {free} micro-euro are free, this request may cost {refused.asked}",
        }[refused.reason]
        message = (
            f"The {whose}'s {what}. Lower max_tokens, wait for running requests, or ask for a larger limit."
        )
        return errors.insufficient_quota(message, retry_after_seconds=seconds)
    if refused.reason == "oversize":
        message = (
            f"This request may use {refused.asked} tokens, more than the {whose}'s {refused.limit} a minute. "
            "Lower max_tokens or shorten the prompt."
        )
        return errors.over_token_limit(message, headers)
    message = f"The {whose}'s limit of {refused.limit} {refused.reason} a minute is reached; try again in {seconds} s."
    return errors.rate_limited(message, kind=refused.reason, retry_after_seconds=seconds, headers=headers)
