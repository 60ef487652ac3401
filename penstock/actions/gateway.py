"""What the token gateway asks of the control plane: whom it may serve with what, and to take its usage.

The gateway proves itself with a token of its own, of which only the hash is stored.
"""

import hashlib
import hmac
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import structlog
from prometheus_client import Counter
from sqlalchemy.engine import Connection

from penstock.actions.context import Context
from penstock.actions.spent import with_spent
from penstock.actions.usage_record import readable
from penstock.base.clock import to_epoch_us
from penstock.base.errors import TooLargeError, UnauthenticatedError, UnavailableError
from penstock.base.limits import USAGE_RECORDS_BATCH_MAX
from penstock.domain.autoscale import Policy
from penstock.domain.knowledge_base import base_id_of
from penstock.domain.price import Meter
from penstock.domain.quota import Measure, month_start
from penstock.domain.rate_limit import LIMITS, Subject
from penstock.domain.role import Binding, Role, granted
from penstock.domain.secret import secret_purpose
from penstock.drivers.openai_compatible.config import allowed_networks
from penstock.drivers.pki import relay_name
from penstock.drivers.pki.vault import Vault
from penstock.store import event as event_store
from penstock.store import gateway as gateway_store
from penstock.store import objective as objective_store
from penstock.store import price_book as price_book_store
from penstock.store import rate_limit as rate_limit_store
from penstock.store import setting as setting_store
from penstock.store.database import SYSTEM
from penstock.store.quota_month import consumed
from penstock.store.rows import Row

TOKEN_SETTING = "gateway_token_sha256"  # noqa: S105 - the name of a setting
PERMISSION = "llm:call"
_TERMS = (*LIMITS, "spent")
_LIMITS = (*_TERMS, "priority")
WAIT_SECONDS_MAX = 30.0
# A snapshot is made at most this often; between signals the database is asked again every few seconds,
# because keys and quotas also end by the clock. A revoked key is refused within a second, however large the factory.
REBUILD_SECONDS_MIN = 0.1
REBUILD_SECONDS_MAX = 0.5
REBUILD_COST_FACTOR = 10
POLL_SECONDS = 5.0

log = structlog.get_logger(__name__)
USAGE = Counter("penstock_gateway_usage_records_total", "Usage records by what became of them.", ("outcome",))


def trust(context: Context, token: str) -> None:
    """Accept gateways that send ``token``, and no other; only its SHA-256 is stored."""
    with context.db.transaction(SYSTEM) as connection:
        setting_store.put(connection, TOKEN_SETTING, hashlib.sha256(token.encode()).hexdigest())


def authenticate(context: Context, token: str | None) -> None:
    """Raise UnauthenticatedError unless ``token`` is the gateway's."""
    with context.db.transaction(SYSTEM) as connection:
        expected = setting_store.get(connection, TOKEN_SETTING)
    given = hashlib.sha256((token or "").encode()).hexdigest()
    if token is None or expected is None or not hmac.compare_digest(given, str(expected)):
        raise UnauthenticatedError("this endpoint is for the gateway of this factory, with its token")


@dataclass(frozen=True, slots=True)
class _Built:
    version: int
    digest: bytes
    document: bytes
    at: float
    seen: int


class SnapshotFeed:
    """The current snapshot, made once for all gateways of this process and only when something changed.

    Versions grow, also over restarts: a new one is the instant in microseconds or one more than the last.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._built: _Built | None = None
        self._pause_seconds = REBUILD_SECONDS_MIN

    def wait(self, since: int, wait_seconds: float) -> tuple[int, bytes | None]:
        """Return version and JSON of the snapshot, or None as JSON if it is still version ``since``.

        Waits up to ``wait_seconds`` for another version than ``since``.
        """
        remaining = min(max(wait_seconds, 0.0), WAIT_SECONDS_MAX)
        clock, wakeups = self._context.clock, self._context.wakeups
        while True:
            built = self._current()
            if built.version != since:
                return built.version, built.document
            if remaining <= 0:
                return built.version, None
            step = min(remaining, POLL_SECONDS)
            began = clock.monotonic()
            woken = wakeups.wait("gateway", built.seen, step)
            remaining -= clock.monotonic() - began if woken else step
            if woken and wakeups.count("gateway") == built.seen:
                return built.version, None  # the process is stopping
            if woken:
                pause = min(max(remaining, 0.0), self._pause_seconds)
                threading.Event().wait(pause)
                remaining -= pause

    def _current(self) -> _Built:
        clock, wakeups = self._context.clock, self._context.wakeups
        with self._lock:
            built, seen, began = self._built, wakeups.count("gateway"), clock.monotonic()
            fresh = built is not None and began - built.at < self._pause_seconds
            if built is not None and built.seen == seen and fresh:
                return built
            with self._context.db.transaction(SYSTEM) as connection:
                content = read_snapshot(connection, clock.now(), self._context.vault)
            body = orjson.dumps(content)
            digest = hashlib.sha256(body).digest()
            ended = clock.monotonic()
            pause = max(REBUILD_SECONDS_MIN, REBUILD_COST_FACTOR * (ended - began))
            self._pause_seconds = min(pause, REBUILD_SECONDS_MAX)
            if built is not None and digest == built.digest:
                self._built = _Built(built.version, digest, built.document, ended, seen)
            else:
                version = max(to_epoch_us(clock.now()), built.version + 1 if built else 1)
                document = orjson.dumps({"version": version, **content})
                self._built = _Built(version, digest, document, ended, seen)
            return self._built


def read_snapshot(connection: Connection, now: datetime, vault: Vault | None = None) -> dict[str, Any]:
    """Return the snapshot without its version: keys that may call endpoints, endpoints, tokens left.

    ``vault`` opens the secrets of servers elsewhere; a server whose secret does not open is left out.

    A key has one ``project`` in it, and the gateway shows a key the endpoints of exactly that project. A key
    that may call several projects gets a name for that set of projects (``*`` for all of the tenant, else
    their ids joined by ``+``), and the endpoints of these projects are listed once more under that name.
    """
    projects: dict[str, list[str]] = {}
    for tenant_id, project_id in gateway_store.projects(connection):
        projects.setdefault(tenant_id, []).append(project_id)
    limited = with_spent(connection, rate_limit_store.by_subject(connection), now)
    keys: list[dict[str, Any]] = []
    groups: dict[tuple[str, str], list[str]] = {}
    for row in gateway_store.keys(connection, now):
        allowed = _allowed_projects(row, projects.get(row["tenant_id"], []))
        if not allowed:
            continue
        whole = len(allowed) == len(projects[row["tenant_id"]])
        group = allowed[0] if len(allowed) == 1 else "*" if whole else "+".join(allowed)
        groups[row["tenant_id"], group] = allowed
        keys.append(_key(row, group, allowed, limited.get(row["id"], {})))
    for row in gateway_store.passes(connection, now):
        groups.setdefault((row["tenant_id"], row["project_id"]), [row["project_id"]])
        entry = _key(row, row["project_id"], [row["project_id"]], limited.get(row["id"], {}))
        keys.append({**entry, "priority": "batch", "metered": False})
    endpoints = _with_secrets(gateway_store.endpoints(connection), vault)
    endpoints = _with_terms(connection, endpoints, limited)
    return {
        "keys": keys,
        **_limits(_tokens_left(connection, now), limited),
        "models": [
            entry
            for (tenant, group), allowed in groups.items()
            for entry in _models(endpoints, tenant, group, allowed)
        ],
    }


def _allowed_projects(row: Row, projects: Sequence[str]) -> list[str]:
    bindings = [Binding(Role(role), tenant_id, project_id) for role, tenant_id, project_id in row["bindings"]]
    return [
        project_id
        for project_id in projects
        if row["project_id"] in (None, project_id)
        and granted(PERMISSION, bindings, row["scopes"], row["tenant_id"], project_id)
    ]


def _with_terms(
    connection: Connection, endpoints: Sequence[Row], limited: Mapping[str, Mapping[str, Any]]
) -> list[Row]:
    """Return endpoints with ``terms``: their token prices, limits, priority and what they promise."""
    books = price_book_store.read(connection, sorted({row["price_book_id"] for row in endpoints}))
    promises = objective_store.every_one(connection)
    found: list[Row] = []
    for row in endpoints:
        terms = {name: value for name, value in limited.get(row["id"], {}).items() if name in _LIMITS}
        for kind, meter in (("prompt", Meter.INPUT_TOKENS), ("completion", Meter.OUTPUT_TOKENS)):
            price = books[row["price_book_id"]].find(meter, str(row["spec"].get("model", "")))
            if price is not None and price.microeur_per_unit:
                terms[f"{kind}_microeur_per_million"] = price.microeur_per_unit
        found.append({**row, "terms": terms | _promise(promises.get(row["id"]))})
    return found


def _promise(promise: Row | None) -> dict[str, Any]:
    """Return what an endpoint promises as gateways read it."""
    if promise is None:
        return {}
    shown = {
        "slo_ttft_ms": promise["ttft_ms"],
        "slo_token_ms": promise["token_ms"],
        "slo_percent": promise["percent_ppm"] / 10_000,
    }
    if promise["availability_ppm"] is not None:
        shown["slo_availability_percent"] = promise["availability_ppm"] / 10_000
    return {name: value for name, value in shown.items() if value is not None}


def _limits(
    left: Mapping[str, list[dict[str, Any]]], limited: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return ``tenants`` and ``projects`` with what is left of quotas, and the limits that were set for them."""
    tenants = {entry["id"]: dict(entry) for entry in left["tenants"]}
    projects = {(entry["tenant"], entry["id"]): dict(entry) for entry in left["projects"]}
    for subject_id, terms in limited.items():
        own = {name: value for name, value in terms.items() if name in _TERMS}
        if terms["subject"] == Subject.TENANT:
            tenants.setdefault(subject_id, {"id": subject_id}).update(own)
        elif terms["subject"] == Subject.PROJECT:
            where = terms["tenant_id"], subject_id
            projects.setdefault(where, {"tenant": where[0], "id": subject_id}).update(own)
    return {"tenants": list(tenants.values()), "projects": list(projects.values())}


def _key(row: Row, group: str, allowed: Sequence[str], limited: Mapping[str, Any]) -> dict[str, Any]:
    """Return a key with its limits; of two limits of one kind the lower holds."""
    both: dict[str, Any] = {name: limited.get(name) for name in _TERMS}
    for name in ("requests_per_minute", "tokens_per_minute"):
        both[name] = min((value for value in (row[name], both[name]) if value is not None), default=None)
    return {
        "id": row["id"],
        "sha256": row["secret_sha256"],
        "tenant": row["tenant_id"],
        "project": group,
        "projects": list(allowed),
        "principal": row["principal_id"],
        "scopes": row["scopes"],
        "expires_at_us": None if row["expires_at"] is None else to_epoch_us(row["expires_at"]),
        "priority": limited.get("priority"),
        **{name: value for name, value in both.items() if value is not None or name in row},
    }


def _models(
    endpoints: Sequence[Row], tenant: str, group: str, allowed: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the endpoints of a set of projects under the set's name; where two share a name, the older wins."""
    named: dict[str, dict[str, Any]] = {}
    for row in (shown for found in endpoints for shown in (found, *_adapters(found))):
        if row["tenant_id"] == tenant and row["project_id"] in allowed and row["name"] not in named:
            named[row["name"]] = {
                "name": row["name"],
                "service": row["id"],
                "tenant": tenant,
                "project": group,
                "owner": row["project_id"],
                "model": row["model"],
                "upstreams": [_upstream(found) for found in row["upstreams"]],
                **row["terms"],
                **({"plain": True} if any(found.get("external") for found in row["upstreams"]) else {}),
            }
            if row["kind"] == "rag":
                named[row["name"]]["knowledge_base"] = base_id_of(row["id"])
            if Policy.of(row["spec"]) is not None:
                named[row["name"]]["elastic"] = True
    return list(named.values())


def _adapters(row: Row) -> list[Row]:
    """Return an endpoint once more for each adapter of its replicas, with those replicas that have it."""
    found: dict[str, Row] = {}
    for upstream in row["upstreams"]:
        for adapter in upstream.get("adapters") or ():
            name = adapter["name"]
            shown = found.setdefault(name, {**row, "name": name, "model": name, "upstreams": []})
            shown["upstreams"].append(upstream)
    return list(found.values())


def _with_secrets(endpoints: Sequence[Row], vault: Vault | None) -> list[Row]:
    """Return endpoints with the opened secrets of servers elsewhere; one that does not open is not served."""
    found: list[Row] = []
    for row in endpoints:
        upstreams = [one for one in row["upstreams"] if _opened(one, vault)]
        found.append({**row, "upstreams": upstreams})
    return found


def _opened(upstream: dict[str, Any], vault: Vault | None) -> bool:
    """Put the value of an upstream's secret in its place; tell whether it could be."""
    sealed = upstream.pop("sealed", None)
    if sealed is None:
        return True
    try:
        upstream["api_key"] = (vault or Vault()).open(sealed, secret_purpose(upstream["secret"]))
    except (ValueError, UnavailableError) as error:
        log.warning("secret_not_opened", secret=upstream["secret"], error=str(error))
        return False
    return True


def _upstream(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a replica for the gateway; one behind a relay has the name that it is asked for by there."""
    shown = {name: found[name] for name in ("id", "url", "cancel", "continues")}
    if found["agent"] is not None:
        shown["server_name"] = relay_name(found["id"], found["agent"])
    if found["slots"]:
        shown["slots"] = int(found["slots"])
    if found.get("external"):
        shown |= {"guard": [str(one) for one in allowed_networks()]}
        if "api_key" in found:
            shown["api_key"] = found["api_key"]
    return shown


def _tokens_left(connection: Connection, now: datetime) -> dict[str, list[dict[str, Any]]]:
    """Return ``tenants`` and ``projects`` with a monthly token quota, and what is left of it."""
    limits = gateway_store.token_quotas(connection)
    spent = dict.fromkeys(limits, 0)
    if limits:
        tenants = sorted({tenant for tenant, _ in limits})
        used = consumed(connection, [Measure.TOKENS_PER_MONTH], tenants, month_start(now), now)
        for spender, amount in used[Measure.TOKENS_PER_MONTH].items():
            for which in ((spender.tenant_id, None), (spender.tenant_id, spender.project_id)):
                if which in spent:
                    spent[which] += amount
    left = {which: max(0, limit - spent[which]) for which, limit in limits.items()}
    return {
        "tenants": [
            {"id": tenant, "tokens_left": n} for (tenant, project), n in left.items() if project is None
        ],
        "projects": [
            {"tenant": tenant, "id": project, "tokens_left": n}
            for (tenant, project), n in left.items()
            if project is not None
        ],
    }


def take_usage(context: Context, records: Sequence[object]) -> Mapping[str, int]:
    """Write usage records once each; return how many were ``accepted``, ``duplicate`` and ``rejected``.

    A record that is not as documented, or whose service is not the stated tenant's, is rejected, counted and
    logged, and never holds up the others. Raises TooLargeError above ``USAGE_RECORDS_BATCH_MAX``.
    """
    if len(records) > USAGE_RECORDS_BATCH_MAX:
        raise TooLargeError(
            f"at most {USAGE_RECORDS_BATCH_MAX} usage records in one delivery", field="records"
        )
    now = context.clock.now()
    good: dict[str, dict[str, Any]] = {}
    repeated = 0
    for record in records:
        row = readable(record, now)
        if row is not None:
            repeated += row["id"] in good
            good[row["id"]] = row

    def work(connection: Connection) -> dict[str, bool]:
        written = gateway_store.record_usage(connection, list(good.values()), now)
        _note_first_tokens(connection, [good[id_] for id_, new in written.items() if new], now)
        return written

    written = context.db.retrying(SYSTEM, work) if good else {}
    accepted = sum(written.values())
    duplicate = len(written) - accepted + repeated
    outcome = {"accepted": accepted, "duplicate": duplicate, "rejected": len(records) - accepted - duplicate}
    for name, count in outcome.items():
        USAGE.labels(name).inc(count)
    if accepted:
        context.wakeups.signal("event")
    return outcome


def _note_first_tokens(connection: Connection, records: Sequence[Mapping[str, Any]], now: datetime) -> None:
    first: dict[str, datetime] = {}
    for record in records:
        at = record["first_token_at"]
        if at is not None:
            first[record["service"]] = min(at, first.get(record["service"], at))
    event_store.emit_many(
        connection,
        [
            event_store.NewEvent(
                now,
                "service.first_token",
                row["id"],
                row["tenant_id"],
                row["project_id"],
                {
                    "name": row["name"],
                    "seconds_since_order": (row["first_token_at"] - row["ordered_at"]).total_seconds(),
                },
            )
            for row in gateway_store.note_first_tokens(connection, first)
            if row["is_first"]
        ],
    )
