"""A snapshot brought to life: keys by digest, models by name, and the state that outlives versions.

Applying a snapshot is one assignment at the end, so that every request sees one version entirely.
Windows, quotas, pools and counters are carried over by id.
"""

import asyncio
from collections.abc import Mapping

from penstock.gateway.limits import KeyLimits, TokenQuota
from penstock.gateway.metrics import ModelStats
from penstock.gateway.settings import Settings
from penstock.gateway.snapshot import KeyEntry, ModelEntry, Snapshot, UpstreamEntry
from penstock.gateway.upstream import Upstream


class Model:
    """A model as its clients call it."""

    __slots__ = ("entry", "name", "stats", "upstreams")

    def __init__(self, entry: ModelEntry, upstreams: tuple[Upstream, ...], stats: ModelStats) -> None:
        self.entry = entry
        self.name = entry.name
        self.upstreams = upstreams
        self.stats = stats


class Key:
    """A key with everything that admission needs, one attribute away."""

    __slots__ = ("entry", "expires_at_us", "limited", "limits", "models", "quota", "usable")

    def __init__(
        self, entry: KeyEntry, limits: KeyLimits, quota: TokenQuota, models: Mapping[str, Model]
    ) -> None:
        self.entry = entry
        self.limits = limits
        self.quota = quota
        self.models = models
        self.expires_at_us = entry.expires_at_us
        self.usable = "llm" in entry.scopes or "*" in entry.scopes
        self.limited = limits.limited or quota.left is not None


class Directory:
    """The current version and what is carried from one to the next."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self.version: int | None = None
        self.keys: Mapping[bytes, Key] = {}
        self.stats: dict[tuple[str, str], ModelStats] = {}
        self._limits: dict[str, KeyLimits] = {}
        self._quotas: dict[str, TokenQuota] = {}
        self._upstreams: dict[UpstreamEntry, Upstream] = {}

    def quota(self, tenant: str) -> TokenQuota:
        """Return the tenant's quota, the same object for life."""
        found = self._quotas.get(tenant)
        if found is None:
            found = self._quotas[tenant] = TokenQuota()
        return found

    @property
    def upstreams(self) -> list[Upstream]:
        """Return the engines of the current version."""
        return list(self._upstreams.values())

    def apply(self, snapshot: Snapshot) -> None:
        """Switch to ``snapshot``; running requests keep the objects they started with."""
        upstreams: dict[UpstreamEntry, Upstream] = {}
        stats: dict[tuple[str, str], ModelStats] = {}
        models: dict[tuple[str, str], dict[str, Model]] = {}
        for entry in snapshot.models:
            for up in entry.upstreams:
                if up not in upstreams:
                    upstreams[up] = self._upstreams.get(up) or Upstream(up, self._loop, self._settings)
            which = entry.service, entry.name
            stats[which] = self.stats.get(which) or ModelStats(*which)
            model = Model(entry, tuple(upstreams[up] for up in entry.upstreams), stats[which])
            models.setdefault((entry.tenant, entry.project), {})[entry.name] = model
        tenants = {entry.tenant for entry in snapshot.keys} | set(snapshot.tokens_left) | set(self._quotas)
        for tenant in tenants:
            self.quota(tenant).rebase(snapshot.tokens_left.get(tenant))
        limits = {entry.id: self._limits.get(entry.id) or KeyLimits() for entry in snapshot.keys}
        keys: dict[bytes, Key] = {}
        for entry in snapshot.keys:
            own = limits[entry.id]
            own.requests_per_minute = entry.requests_per_minute
            own.tokens_per_minute = entry.tokens_per_minute
            visible = models.get((entry.tenant, entry.project), {})
            keys[entry.digest] = Key(entry, own, self.quota(entry.tenant), visible)
        for up, gone in self._upstreams.items():
            if up not in upstreams:
                gone.retire()
        self._upstreams, self._limits, self.stats, self.keys = upstreams, limits, stats, keys
        self.version = snapshot.version
