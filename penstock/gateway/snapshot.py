"""What the control plane tells the gateway, checked and frozen: keys, token quotas, models and their engines.

The document is documented in docs/reference/gateway.md. A document that is wrong in any place is refused
as a whole, so that the gateway never serves half of one.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

import orjson

from penstock.base.addresses import parse_networks
from penstock.base.errors import InvalidInputError
from penstock.base.limits import TENANT_WEIGHT_MAX
from penstock.gateway.fair_queue import WEIGHTS
from penstock.gateway.guard import Guard
from penstock.gateway.limits import FREE, NO_LIMITS, Limits, Price, Spent
from penstock.gateway.objective import NO_OBJECTIVE, Objective

T = TypeVar("T")
_LIMITS = tuple(field.name for field in fields(Limits) if field.name != "spent")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


class SnapshotError(ValueError):
    """A snapshot that cannot be used; the text names the place."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One API key: only the SHA-256 of its text is known here."""

    id: str
    digest: bytes
    tenant: str
    project: str
    principal: str
    scopes: frozenset[str]
    expires_at_us: int | None = None
    limits: Limits = NO_LIMITS
    priority: str = ""  # empty: the model's, else normal
    metered: bool = True  # False: whoever asks with it writes the books himself, as the workers of batches do


@dataclass(frozen=True, slots=True)
class UpstreamEntry:
    """One replica of an engine; ``prefix`` is the path before ``/chat/completions``."""

    id: str
    host: str
    port: int
    tls: bool
    prefix: str
    cancel: bool
    authorization: str | None = None
    continues: bool = False  # it takes up an assistant's message in its middle
    slots: int = 0  # requests at a time; 0: the setting in_flight_per_engine_max
    server_name: str | None = None  # behind a relay: the name it is asked for by, with our certificate
    guard: Guard | None = None  # chosen by a tenant: where it may lead


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A public model name of one project, and the engines that serve it."""

    name: str
    service: str
    tenant: str
    project: str
    model: str
    upstreams: tuple[UpstreamEntry, ...]
    limits: Limits = NO_LIMITS
    price: Price = FREE
    objective: Objective = NO_OBJECTIVE
    plain: bool = False  # its engines take OpenAI's fields and no others
    owner: str = ""  # the project that owns the service, where ``project`` names a set of them
    priority: str = ""
    knowledge_base: str = ""  # it answers from this one
    elastic: bool = False  # its replicas follow the load: without one, requests are held while one starts

    @property
    def billed_project(self) -> str:
        """Return the project whose limits hold and whose usage it is."""
        return self.owner or self.project


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of everything; ``limits`` holds only what has one: ("tenant", id) or ("project", tenant/id).

    ``weights`` holds those of tenants that are not 1: their shares where requests wait.
    """

    version: int
    keys: tuple[KeyEntry, ...]
    limits: Mapping[tuple[str, str], Limits]
    models: tuple[ModelEntry, ...]
    weights: Mapping[str, int] = field(default_factory=dict[str, int])


def _object(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise SnapshotError(f"{place} must be an object")
    return cast("dict[str, object]", value)


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise SnapshotError(f"{place} must be a list")
    return cast("list[object]", value)


def _text(entry: dict[str, object], field: str, place: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str) or not value:
        raise SnapshotError(f"{place}.{field} must be a text that is not empty")
    return value


def _count(entry: dict[str, object], field: str, place: str) -> int | None:
    value = entry.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise SnapshotError(f"{place}.{field} must be a whole number or null")
    return value


def _natural(entry: dict[str, object], field: str, place: str) -> int:
    found = _count(entry, field, place) or 0
    if found < 0:
        raise SnapshotError(f"{place}.{field} must not be negative")
    return found


def _priority(entry: dict[str, object], place: str) -> str:
    found = entry.get("priority") or ""
    if not isinstance(found, str) or (found and found not in WEIGHTS):
        raise SnapshotError(f"{place}.priority must be one of {', '.join(WEIGHTS)}")
    return found


def _limits(entry: dict[str, object], place: str) -> Limits:
    found = {name: _count(entry, name, place) for name in _LIMITS}
    for name, value in found.items():
        if value is not None and value < 0 and name != "tokens_left":
            raise SnapshotError(f"{place}.{name} must not be negative")
    return Limits(**found, spent=_spent(entry, place))


def _spent(entry: dict[str, object], place: str) -> Spent | None:
    if entry.get("spent") is None:
        return None
    told = _object(entry["spent"], f"{place}.spent")
    return Spent(*(_natural(told, field.name, f"{place}.spent") for field in fields(Spent)))


def _price(entry: dict[str, object], place: str) -> Price:
    prompt, completion = (
        _natural(entry, f"{kind}_microeur_per_million", place) for kind in ("prompt", "completion")
    )
    return Price(prompt, completion) if prompt or completion else FREE


def _share(entry: dict[str, object], field: str, place: str, default: int) -> int:
    """Return a share in parts per million of a field in percent."""
    share = entry.get(field, default)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 100:
        raise SnapshotError(f"{place}.{field} must be above 0 and at most 100")
    return round(share * 10_000)


def _objective(entry: dict[str, object], place: str) -> Objective:
    found = Objective(
        _natural(entry, "slo_ttft_ms", place) * 1_000,
        _share(entry, "slo_percent", place, 99),
        _natural(entry, "slo_token_ms", place) * 1_000,
        _share(entry, "slo_availability_percent", place, 100) if "slo_availability_percent" in entry else 0,
    )
    return found if found.any else NO_OBJECTIVE


def _key(value: object, place: str) -> KeyEntry:
    entry = _object(value, place)
    try:
        digest = bytes.fromhex(_text(entry, "sha256", place))
    except ValueError as error:
        raise SnapshotError(f"{place}.sha256 must be hexadecimal") from error
    if len(digest) != 32:
        raise SnapshotError(f"{place}.sha256 must have 64 digits")
    scopes = _list(entry.get("scopes"), f"{place}.scopes")
    if not all(isinstance(scope, str) for scope in scopes):
        raise SnapshotError(f"{place}.scopes must hold texts")
    return KeyEntry(
        id=_text(entry, "id", place),
        digest=digest,
        tenant=_text(entry, "tenant", place),
        project=_text(entry, "project", place),
        principal=_text(entry, "principal", place),
        scopes=frozenset(cast("list[str]", scopes)),
        expires_at_us=_count(entry, "expires_at_us", place),
        limits=_limits(entry, place),
        priority=_priority(entry, place),
        metered=entry.get("metered") is not False,
    )


def parse_upstream(value: object, place: str) -> UpstreamEntry:
    """Return one upstream of ``{"id", "url", "cancel", "api_key"?, "server_name"?}``; raises SnapshotError."""
    entry = _object(value, place)
    url = _text(entry, "url", place)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SnapshotError(f"{place}.url is not a URL") from error
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or not url.isascii()
        or not url.isprintable()
    ):
        raise SnapshotError(f"{place}.url must be http://host:port or https://host")
    tls = parts.scheme == "https"
    path = parts.path.rstrip("/")
    secret = entry.get("api_key")
    if secret is not None and not (isinstance(secret, str) and secret.isascii() and secret.isprintable()):
        raise SnapshotError(f"{place}.api_key must be printable ASCII")
    server_name = entry.get("server_name")
    if server_name is not None and not (
        tls and isinstance(server_name, str) and _HOST_NAME.fullmatch(server_name)
    ):
        raise SnapshotError(f"{place}.server_name must be a host name, of an https URL")
    return UpstreamEntry(
        id=_text(entry, "id", place),
        host=parts.hostname,
        port=port or (443 if tls else 80),
        tls=tls,
        prefix=path if path.endswith("/v1") else path + "/v1",
        cancel=entry.get("cancel") is True,
        authorization=f"Bearer {secret}" if secret else None,
        continues=entry.get("continues") is True,
        slots=_natural(entry, "slots", place),
        server_name=server_name,
        guard=_guard(entry, place),
    )


def _guard(entry: dict[str, object], place: str) -> Guard | None:
    if "guard" not in entry:
        return None
    networks = _list(entry["guard"], f"{place}.guard")
    try:
        return Guard(parse_networks(",".join(str(one) for one in networks)))
    except InvalidInputError as error:
        raise SnapshotError(f"{place}.guard must hold networks") from error


def _model(value: object, place: str) -> ModelEntry:
    entry = _object(value, place)
    upstreams = _list(entry.get("upstreams"), f"{place}.upstreams")
    return ModelEntry(
        name=_text(entry, "name", place),
        service=_text(entry, "service", place),
        tenant=_text(entry, "tenant", place),
        project=_text(entry, "project", place),
        model=_text(entry, "model", place),
        upstreams=tuple(parse_upstream(up, f"{place}.upstreams[{i}]") for i, up in enumerate(upstreams)),
        limits=_limits(entry, place),
        price=_price(entry, place),
        objective=_objective(entry, place),
        plain=entry.get("plain") is True,
        owner=_text(entry, "owner", place) if "owner" in entry else "",
        priority=_priority(entry, place),
        elastic=entry.get("elastic") is True,
        knowledge_base=_text(entry, "knowledge_base", place) if "knowledge_base" in entry else "",
    )


def _tenant(value: object, place: str) -> tuple[tuple[str, str], Limits]:
    entry = _object(value, place)
    return ("tenant", _text(entry, "id", place)), _limits(entry, place)


def _weight(value: object, place: str) -> tuple[str, int]:
    entry = _object(value, place)
    weight = _count(entry, "weight", place)
    if weight is not None and not 1 <= weight <= TENANT_WEIGHT_MAX:
        raise SnapshotError(f"{place}.weight must be from 1 to {TENANT_WEIGHT_MAX}")
    return _text(entry, "id", place), weight or 1


def _project(value: object, place: str) -> tuple[tuple[str, str], Limits]:
    entry = _object(value, place)
    name = f"{_text(entry, 'tenant', place)}/{_text(entry, 'id', place)}"
    return ("project", name), _limits(entry, place)


def _every(document: dict[str, object], field: str, parse: Callable[[object, str], T]) -> tuple[T, ...]:
    return tuple(parse(value, f"{field}[{i}]") for i, value in enumerate(_list(document.get(field), field)))


def parse_snapshot(value: object) -> Snapshot:
    """Return the checked snapshot of a decoded JSON document; raises SnapshotError naming the place."""
    document = _object(value, "the snapshot")
    version = _count(document, "version", "the snapshot")
    if version is None:
        raise SnapshotError("the snapshot has no version")
    scopes = _every(document, "tenants", _tenant)
    weights = _every(document, "tenants", _weight)
    if "projects" in document:
        scopes += _every(document, "projects", _project)
    return Snapshot(
        version=version,
        keys=_every(document, "keys", _key),
        limits={name: limits for name, limits in scopes if limits.any},
        models=_every(document, "models", _model),
        weights={tenant: weight for tenant, weight in weights if weight != 1},
    )


def save_cache(path: Path, raw: bytes) -> None:
    """Write the document as received to ``path``, readable by its owner only, in one atomic step.

    Raises OSError; a half-written file is never seen under the final name.
    """
    temporary = path.with_suffix(".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.fchmod(handle, 0o600)
        view = memoryview(raw)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(path)


def load_cache(path: Path, opened: Callable[[bytes], bytes] = bytes) -> Snapshot | None:
    """Return the cached snapshot, or None if there is none; raises SnapshotError or OSError if it is bad.

    ``opened`` undoes what was done to the document before it was saved.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return parse_snapshot(orjson.loads(opened(raw)))
    except ValueError as error:
        if isinstance(error, SnapshotError):
            raise
        raise SnapshotError(f"{path} is not JSON") from error
