"""The gateway without a factory: keys, models and limits from one TOML file.

The file becomes the same snapshot document that a control plane sends, and is checked by the same code.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

from penstock.base.clock import to_epoch_us
from penstock.base.errors import StartupError
from penstock.gateway.snapshot import Snapshot, SnapshotError, parse_snapshot

_TOP = {
    "listen", "processes", "tls", "engine_tls", "keys", "models", "tenants", "projects", "ledger", "ledger_bytes_max", "settings",
}  # fmt: skip
_LIMITS = {"requests_per_minute", "tokens_per_minute", "tokens_per_day", "microeur_per_month"}
_KEY = {
    "key",
    "sha256",
    "hash",
    "id",
    "tenant",
    "project",
    "principal",
    "scopes",
    "expires_at",
    "priority",
} | _LIMITS
_PRICES = {"prompt_microeur_per_million", "completion_microeur_per_million"}
_OBJECTIVE = {"slo_ttft_ms", "slo_token_ms", "slo_percent", "slo_availability_percent"}
_MODEL = (
    {"name", "model", "service", "tenant", "project", "upstreams", "priority"}
    | _PRICES
    | _LIMITS
    | _OBJECTIVE
)
_TENANT = {"id", "tokens_left", "weight"} | _LIMITS
_PROJECT = {"id", "tenant"} | _LIMITS
_UPSTREAM = {"id", "url", "cancel", "api_key", "slots", "server_name", "continues"}


@dataclass(frozen=True, slots=True)
class Config:
    """A standalone gateway: ``settings`` override fields of ``Settings`` by name."""

    listen: str
    ledger: Path | None
    snapshot: Snapshot
    settings: dict[str, int | float]
    processes: int = 1
    certificate: tuple[Path, Path] | None = None
    engine_tls: tuple[Path, Path] | None = None


def _tables(document: dict[str, object], field: str, known: set[str]) -> list[dict[str, object]]:
    value = document.get(field, [])
    if not isinstance(value, list) or not all(
        isinstance(entry, dict) for entry in cast("list[object]", value)
    ):
        raise StartupError(f"'{field}' must be written as [[{field}]] tables.")
    tables = cast("list[dict[str, object]]", value)
    for i, table in enumerate(tables):
        _only(table, known, f"{field}[{i}]")
    return tables


def _only(table: dict[str, object], known: set[str], place: str) -> None:
    for field in table:
        if field not in known:
            raise StartupError(
                f"{place} has an unknown field '{field}'; known are {', '.join(sorted(known))}."
            )


def _key(table: dict[str, object], number: int) -> dict[str, object]:
    plain, digest, expires = table.get("key"), table.get("sha256", table.get("hash")), table.get("expires_at")
    if (plain is None) == (digest is None):
        raise StartupError(f"keys[{number}] needs either 'sha256' or, for a bench, 'key'.")
    if isinstance(plain, str):
        digest = hashlib.sha256(plain.encode()).hexdigest()
    if expires is not None and not (isinstance(expires, datetime) and expires.tzinfo is not None):
        raise StartupError(f"keys[{number}].expires_at must be a date and time with a zone.")
    return {
        "id": table.get("id", f"key_{number}"),
        "sha256": digest,
        "tenant": table.get("tenant", "default"),
        "project": table.get("project", "default"),
        "principal": table.get("principal", "default"),
        "scopes": table.get("scopes", ["llm"]),
        "expires_at_us": to_epoch_us(expires) if isinstance(expires, datetime) else None,
        **{name: table[name] for name in _LIMITS | {"priority"} if name in table},
    }


def _model(table: dict[str, object], number: int) -> dict[str, object]:
    name = table.get("name")
    upstreams = table.get("upstreams")
    if not isinstance(upstreams, list) or not upstreams:
        raise StartupError(f"models[{number}].upstreams must be a list of URLs that is not empty.")
    entries: list[dict[str, object]] = []
    for i, value in enumerate(cast("list[object]", upstreams)):
        entry = cast("dict[str, object]", value) if isinstance(value, dict) else {"url": value}
        _only(entry, _UPSTREAM, f"models[{number}].upstreams[{i}]")
        entries.append({"id": f"{name}-{i}", **entry})
    return {
        "name": name,
        "service": table.get("service", name),
        "tenant": table.get("tenant", "default"),
        "project": table.get("project", "default"),
        "model": table.get("model", name),
        "upstreams": entries,
        **{name: table[name] for name in _LIMITS | _PRICES | _OBJECTIVE if name in table},
    }


def _files(
    document: dict[str, object], field: str, first: str, second: str, folder: Path
) -> tuple[Path, Path] | None:
    """Return the two PEM files that the table ``field`` names, None without the table."""
    table = document.get(field)
    if table is None:
        return None
    if not isinstance(table, dict):
        raise StartupError(f"'{field}' must be a table with '{first}' and '{second}'.")
    files = cast("dict[str, object]", table)
    _only(files, {first, second}, field)
    one, other = files.get(first), files.get(second)
    if not isinstance(one, str) or not isinstance(other, str):
        raise StartupError(f"'{field}' needs '{first}' and '{second}', both names of PEM files.")
    return folder / one, folder / other


def read_config(path: Path, *, version: int = 1) -> Config:
    """Return the checked configuration; raises StartupError with a sentence that says what to change."""
    try:
        document: dict[str, object] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"The configuration {path} cannot be read ({error}); check --config.") from error
    except tomllib.TOMLDecodeError as error:
        raise StartupError(f"The configuration {path} is not TOML: {error}.") from error
    _only(document, _TOP, "The configuration")
    keys = [_key(table, i) for i, table in enumerate(_tables(document, "keys", _KEY))]
    models = [_model(table, i) for i, table in enumerate(_tables(document, "models", _MODEL))]
    if not keys or not models:
        raise StartupError(f"The configuration {path} needs at least one [[keys]] and one [[models]] table.")
    try:
        snapshot = parse_snapshot(
            {
                "version": version,
                "keys": keys,
                "models": models,
                "tenants": _tables(document, "tenants", _TENANT),
                "projects": [
                    {"tenant": "default", **table} for table in _tables(document, "projects", _PROJECT)
                ],
            }
        )
    except SnapshotError as error:
        raise StartupError(f"The configuration {path} is wrong: {error}.") from error
    listen, ledger = document.get("listen", "127.0.0.1:7071"), document.get("ledger")
    if not isinstance(listen, str) or not (ledger is None or isinstance(ledger, str)):
        raise StartupError("'listen' and 'ledger' must be texts.")
    processes = document.get("processes", 1)
    if not isinstance(processes, int) or isinstance(processes, bool):
        raise StartupError("'processes' must be a whole number.")
    settings = document.get("settings", {})
    if not isinstance(settings, dict):
        raise StartupError("'settings' must be a table.")
    values = dict(cast("dict[str, int | float]", settings))
    if "ledger_bytes_max" in document:
        values["journal_bytes_max"] = cast("int", document["ledger_bytes_max"])
    return Config(
        listen=listen,
        ledger=None if ledger is None else (path.parent / ledger),
        snapshot=snapshot,
        settings=values,
        processes=processes,
        certificate=_files(document, "tls", "certificate", "key", path.parent),
        engine_tls=_files(document, "engine_tls", "certificate", "authority", path.parent),
    )
