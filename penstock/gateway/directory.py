"""A snapshot brought to life: keys by digest, models by name, and the state that outlives versions.

Applying a snapshot is one assignment at the end, so that every request sees one version entirely.
Windows, quotas, pools and counters are carried over by id.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from penstock.base.limits import STRANGERS_MAX
from penstock.gateway.limit_table import LimitTable
from penstock.gateway.limits import NO_LIMITS, Instant, Limits, Scope, charge
from penstock.gateway.metrics import KeyStats, ModelStats
from penstock.gateway.records import key_part, model_part
from penstock.gateway.routing import Router, note_beside
from penstock.gateway.settings import Settings
from penstock.gateway.snapshot import KeyEntry, ModelEntry, Snapshot, UpstreamEntry
from penstock.gateway.upstream import Upstream


class Waiting(Protocol):
    """A request that waits for an engine."""

    @property
    def gone(self) -> bool:
        """Tell whether nobody waits any longer."""
        ...

    def take_turn(self) -> None:
        """Go to an engine: one has a free slot."""
        ...

    def no_place(self) -> None:
        """End: too many wait, and this one would be the last of them."""
        ...


class Model:
    """A model as its clients call it."""

    __slots__ = ("entry", "name", "owner", "part", "router", "scopes", "stats")

    def __init__(
        self,
        entry: ModelEntry,
        router: "Router[Upstream, Waiting]",
        stats: ModelStats,
        scopes: tuple[Scope, ...],
        owner: Scope,
    ) -> None:
        self.entry = entry
        self.owner = owner  # the project that is billed
        self.part = model_part(entry)
        self.scopes = scopes  # its own and its project's, if they have limits
        self.name = entry.name
        self.router = router
        self.stats = stats

    def serve_queue(self) -> None:
        """Give free slots to those whose turn it is."""
        while (waiting := self.router.next_waiting()) is not None:
            waiting.take_turn()


@dataclass(slots=True)
class Watched:
    """An endpoint that follows its load or promises something; ``engines`` are those that are asked or still answer."""

    tenant: str
    routers: list[Router[Upstream, Waiting]] = field(default_factory=list[Router[Upstream, Waiting]])
    stats: list[ModelStats] = field(default_factory=list[ModelStats])
    engines: set[Upstream] = field(default_factory=set[Upstream])


class Key:
    """A key with everything that admission needs, one attribute away.

    ``scopes`` are those of the key and its tenant that have limits; ``own`` is the key's, if it has
    any, for the headers of answers.
    """

    __slots__ = (
        "entry",
        "expires_at_us",
        "models",
        "own",
        "part",
        "scopes",
        "stats",
        "tenant",
        "usable",
        "weight",
    )

    def __init__(
        self,
        entry: KeyEntry,
        scopes: tuple[Scope, ...],
        tenant: Scope,
        models: Mapping[str, Model],
        stats: KeyStats,
        weight: int,
    ) -> None:
        self.entry = entry
        self.stats = stats
        self.weight = weight  # the tenant's, where requests wait
        self.part = key_part(entry)
        self.scopes = scopes
        self.own = scopes[0] if scopes and scopes[0].kind == "key" else None
        self.tenant = tenant
        self.models = models
        self.expires_at_us = entry.expires_at_us
        self.usable = "llm" in entry.scopes or "*" in entry.scopes


class Directory:
    """The current version and what is carried from one to the next."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        table: LimitTable,
        relay_tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = loop
        self._relay_tls = relay_tls
        self.table = table
        self._settings = settings
        self.version: int | None = None
        self.keys: Mapping[bytes, Key] = {}
        self.gone: dict[bytes, None] = {}  # keys that were known, the latest of them
        self.stats: dict[tuple[str, str], ModelStats] = {}
        self.key_stats: dict[str, KeyStats] = {}
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._upstreams: dict[UpstreamEntry, Upstream] = {}
        self._routers: dict[tuple[str, ...], Router[Upstream, Waiting]] = {}
        self._watched: dict[str, Watched] = {}

    def scope(self, kind: str, name: str) -> Scope:
        """Return the counters of a key, project, tenant or model: the same object for life."""
        found = self._scopes.get((kind, name))
        if found is None:
            found = self._scopes[kind, name] = Scope(kind, self.table, name)
        return found

    @property
    def upstreams(self) -> list[Upstream]:
        """Return the engines of the current version."""
        return list(self._upstreams.values())

    def watched(self) -> dict[str, Watched]:
        """Return the endpoints that gateways report on, by service, with gone replicas that still answer."""
        for found in self._watched.values():
            found.engines = {engine for engine in found.engines if engine.in_flight and engine.retired}
            found.engines.update(engine for router in found.routers for engine in router.engines)
        return self._watched

    def apply(self, snapshot: Snapshot) -> None:
        """Switch to ``snapshot``; running requests keep the objects they started with."""
        self.watched()  # notes the replicas that are asked now, before some of them go
        upstreams = {
            up: self._upstreams.get(up) or Upstream(up, self._loop, self._settings, self._relay_tls)
            for entry in snapshot.models
            for up in entry.upstreams
        }
        stats: dict[tuple[str, str], ModelStats] = {}
        models: dict[tuple[str, str], dict[str, Model]] = {}
        routers: dict[tuple[str, ...], Router[Upstream, Waiting]] = {}
        for entry in snapshot.models:
            which = entry.service, entry.name
            stats[which] = self.stats.get(which) or ModelStats(*which)
            stats[which].objective = entry.objective
            project = "project", f"{entry.tenant}/{entry.billed_project}"
            owner = self.scope(*project)
            own = self._limited("model", f"{entry.tenant}/{entry.service}", entry.limits)
            if project in snapshot.limits:
                own += (owner,)
            router = self._route(
                entry, tuple(dict.fromkeys(upstreams[up] for up in entry.upstreams)), routers
            )
            model = Model(entry, router, stats[which], own, owner)
            models.setdefault((entry.tenant, entry.project), {})[entry.name] = model
        keys = {entry.digest: self._key(entry, snapshot, models) for entry in snapshot.keys}
        named = {("tenant", entry.tenant) for entry in snapshot.keys} | set(snapshot.limits)
        for kind, name in named | {which for which in self._scopes if which[0] in ("tenant", "project")}:
            found = snapshot.limits.get((kind, name), NO_LIMITS)
            self.scope(kind, name).take(found)
            self._learn(self.scope(kind, name), found)
        kept = {entry.id for entry in snapshot.keys}
        self.key_stats = {name: found for name, found in self.key_stats.items() if name in kept}
        for which in [which for which in self._scopes if which[0] == "key" and which[1] not in kept]:
            del self._scopes[which]
        for up, gone in self._upstreams.items():
            if up not in upstreams:
                gone.retire()
        self._note_gone(keys)
        self._upstreams, self._routers, self.stats, self.keys = upstreams, routers, stats, keys
        note_beside(list(routers.values()))
        self._take_watched(snapshot, models)
        self.version = snapshot.version
        for found in models.values():
            for model in found.values():
                model.serve_queue()  # there may be more engines now

    def _note_gone(self, keys: Mapping[bytes, Key]) -> None:
        """Remember keys that are no longer there: nobody need wait for news of them."""
        for digest in self.keys.keys() - keys.keys():
            if len(self.gone) >= STRANGERS_MAX:
                del self.gone[next(iter(self.gone))]
            self.gone[digest] = None
        for digest in self.gone.keys() & keys.keys():
            del self.gone[digest]

    def _take_watched(self, snapshot: Snapshot, models: Mapping[tuple[str, str], dict[str, Model]]) -> None:
        """Note the endpoints to report on; replicas that still answer somebody stay known."""
        before, self._watched = self._watched, {}
        for entry in snapshot.models:
            if not (entry.elastic or entry.objective.any):
                continue
            found = self._watched.get(entry.service)
            if found is None:
                found = self._watched[entry.service] = Watched(entry.tenant)
                old = before.get(entry.service)
                found.engines = (
                    set() if old is None else {*old.engines, *(e for r in old.routers for e in r.engines)}
                )
            model = models[entry.tenant, entry.project][entry.name]
            if model.router not in found.routers:
                found.routers.append(model.router)
            if model.stats not in found.stats:
                found.stats.append(model.stats)

    def _route(
        self,
        entry: ModelEntry,
        engines: tuple[Upstream, ...],
        routers: "dict[tuple[str, ...], Router[Upstream, Waiting]]",
    ) -> "Router[Upstream, Waiting]":
        """Return the router of a model's service: projects and tenants that see the same engines of it share one line."""
        service = entry.service, entry.name
        places = (service[:1], service, (*service, entry.tenant, entry.project))
        where = next(
            (one for one in places if one not in routers or routers[one].engines == engines), places[2]
        )
        if where not in routers:
            settings = self._settings
            routers[where] = self._routers.get(where) or Router(
                blocks_max=settings.prefix_blocks_max,
                queue_max=settings.queue_max,
                gone=lambda waiting: waiting.gone,
            )
            routers[where].update(engines)
        return routers[where]

    def charge(self, records: Sequence[Mapping[str, object]], at: Instant) -> None:
        """Count records that were made without a request: what a crash cut off, found in the journal."""
        keys = {key.entry.id: key for key in self.keys.values()}
        for record in records:
            key = keys.get(str(record.get("key")))
            model = key.models.get(str(record.get("model"))) if key is not None else None
            if key is None or model is None:
                continue
            prompt, completion = record.get("prompt_tokens"), record.get("completion_tokens")
            if not isinstance(prompt, int) or not isinstance(completion, int):
                continue
            tokens, microeur = prompt + completion, model.entry.price.of(prompt, completion)
            charge(self.table, key.scopes + model.scopes, at, tokens, microeur)

    def _key(
        self, entry: KeyEntry, snapshot: Snapshot, models: Mapping[tuple[str, str], dict[str, Model]]
    ) -> Key:
        scopes = self._limited("key", entry.id, entry.limits)
        tenant = "tenant", entry.tenant
        if tenant in snapshot.limits:
            scopes += (self.scope(*tenant),)
        visible = models.get((entry.tenant, entry.project), {})
        stats = self.key_stats.setdefault(entry.id, KeyStats(entry.tenant, entry.id))
        weight = snapshot.weights.get(entry.tenant, 1)
        return Key(entry, scopes, self.scope("tenant", entry.tenant), visible, stats, weight)

    def _limited(self, kind: str, name: str, limits: Limits) -> tuple[Scope, ...]:
        if not limits.any:
            return ()
        scope = self.scope(kind, name)
        scope.limits = limits
        self._learn(scope, limits)
        return (scope,)

    def _learn(self, scope: Scope, limits: Limits) -> None:
        if limits.spent is not None:
            with self.table.lock or nullcontext():
                scope.learn(limits.spent)
