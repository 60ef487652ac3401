"""Models: added by an operator from a local folder, seeded with the shipped ones, retired."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.device_class import require_read
from penstock.actions.model_folder import inspect_folder
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.weights import check_url, digest_of, is_file_name
from penstock.drivers.ctranslate2.checkpoint import (
    DEMO_MODEL_NAME,
    check_layout,
    demo_model_dir,
    inspect_model_folder,
    packaged_facts,
)
from penstock.drivers.ctranslate2.packaged import EMBEDDING_MODEL_NAME, embedding_model_dir
from penstock.store import model as model_store
from penstock.store import tenant as tenant_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row

# What an engine can put a model on: the host's own processor, or a class of device by name.
CPU = "cpu"
# Accelerators that the engine has kernels for, by vendor (its wheel is built for CUDA).
ENGINE_VENDORS: Mapping[str, frozenset[str]] = {
    "ctranslate2": frozenset({"nvidia"}),
    "vllm": frozenset({"nvidia", "amd", "intel"}),
}
ON_PROCESSORS = frozenset({"ctranslate2"})
UNSTATED_LICENCE = "not stated"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def seed(context: Context) -> str | None:
    """Add the shipped models, or follow where this installation keeps them; return the demonstration model's id.

    Returns None, without an error, where the package was built without its model files.
    """
    folder, encoder = demo_model_dir(), embedding_model_dir()
    if encoder is not None:
        _seed_one(context, EMBEDDING_MODEL_NAME, encoder, packaged_facts)
    if not (folder / "model.bin").is_file():
        return None
    return _seed_one(context, DEMO_MODEL_NAME, folder, inspect_model_folder)


def _seed_one(context: Context, name: str, folder: Path, inspect: Callable[[Path], Mapping[str, Any]]) -> str:
    """Add a model of the installation, or note where it is now; return its id."""
    with context.db.transaction(SYSTEM) as connection:
        known = model_store.get(connection, name)
    if known is not None and known["folder"] == str(folder) and known["size_bytes"] == _size(folder):
        return str(known["id"])
    row = _described(context, inspect(folder), name)
    with context.db.transaction(SYSTEM) as connection:
        if known is None:
            model_store.add(connection, row)
        else:
            values = {key: row[key] for key in row if key not in ("id", "name", "state", "created_at")}
            model_store.change(connection, known["id"], values)
    return str(row["id"] if known is None else known["id"])


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in check_layout(folder))


@dataclass(frozen=True, slots=True)
class Terms:
    """What people must know of a model: whose it is, under which licence, and whether tenants need an approval."""

    licence: str | None = None
    licence_text: str = ""
    origin: str = ""
    needs_approval: bool = False
    base_model: str | None = None
    url: str = ""  # a folder (https) that nodes fetch the files from; empty: from the factory


def add(context: Context, actor: Actor, *, folder: str, name: str | None, terms: Terms) -> Row:
    """Add the model in ``folder`` of the control plane's host, under its own name or ``name``.

    A LoRA adapter names the model that it changes in ``terms.base_model``.

    Every file is read and checked before anything is written. Raises InvalidInputError naming what is wrong
    with the folder, ConflictError if the name is taken.
    """
    with change(context, actor, "model.add", name or folder):
        actor.require("model:add")
    if "\0" in folder:
        raise InvalidInputError("a path holds no NUL character", field="folder")
    facts = inspect_folder(folder)
    chosen = name or str(facts["name"])
    if not NAME.fullmatch(chosen):
        raise InvalidInputError(
            f"the model is called '{chosen}' in its manifest; give it a name of letters, digits and . _ - (at most 63)",
            field="name",
        )
    row: Row = {
        **_described(context, facts, chosen, terms.licence),
        "url": check_url(terms.url) if terms.url else "",
        "licence_text": terms.licence_text,
        "origin": terms.origin,
        "needs_approval": terms.needs_approval,
        "base_model": terms.base_model,
    }
    with change(context, actor, "model.add", row["id"]) as made:
        _check_base(made.connection, row)
        if not model_store.add(made.connection, row):
            raise ConflictError(
                f"there is a model '{row['name']}' already; give this one another name", field="name"
            )
        shown = (
            "name",
            "format",
            "folder",
            "size_bytes",
            "licence",
            "sha256",
            "origin",
            "needs_approval",
            "base_model",
            "url",
        )
        detail = {key: row[key] for key in shown}
        made.done("model.added", row["id"], tenant_id=None, detail=detail)
    return {**row, "approved": None}


def _check_base(connection: Connection, row: Mapping[str, Any]) -> None:
    """Raise InvalidInputError unless an adapter, and nothing else, names a base that vLLM serves."""
    if (row["kind"] == "adapter") != (row["base_model"] is not None):
        sentence = (
            "this folder holds a LoRA adapter: name the model that it changes"
            if row["kind"] == "adapter"
            else "only a LoRA adapter has a base model; this folder holds a model"
        )
        raise InvalidInputError(sentence, field="base_model")
    if row["base_model"] is None:
        return
    base = model_store.get(connection, row["base_model"])
    if base is None or base["state"] != "active" or base["kind"] != "generation":
        raise InvalidInputError(f"there is no model '{row['base_model']}' to change", field="base_model")
    if "vllm" not in base["engines"]:
        raise InvalidInputError(
            f"'{base['name']}' is served by {', '.join(base['engines'])}, which serves no adapters; only vllm does",
            field="base_model",
        )


def _described(
    context: Context, facts: Mapping[str, Any], name: str, licence: str | None = None
) -> dict[str, Any]:
    files: Mapping[str, Mapping[str, Any]] = facts["files"]
    engines: list[str] = list(facts.get("engines") or [facts["engine"]])
    vendors = frozenset[str]().union(*(ENGINE_VENDORS.get(engine, frozenset()) for engine in engines))
    processors = [CPU] if ON_PROCESSORS.intersection(engines) else []
    return {
        "id": context.new_id("model"),
        "name": name,
        "format": facts["format"],
        "folder": facts["path"],
        "size_bytes": facts["size_bytes"],
        "parameters": facts["parameters"] or 0,
        "context_tokens": facts["context_tokens"],
        "licence": licence or facts["licence"] or UNSTATED_LICENCE,
        "sha256": digest_of((file, about["sha256"]) for file, about in files.items()),
        "files": _artefact(files),
        "engines": engines,
        "device_classes": [*processors, *_classes_of(context, vendors)],
        "demonstration": facts["demonstration"],
        "kind": facts["kind"],
        "dimensions": facts["dimensions"],
        "state": "active",
        "created_at": context.clock.now(),
    }


def _artefact(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the files as nodes fetch them; none where a name could not be one on another machine."""
    return {name: dict(about) for name, about in files.items()} if all(map(is_file_name, files)) else {}


def _classes_of(context: Context, vendors: frozenset[str]) -> Sequence[str]:
    return sorted(class_.name for class_ in context.device_classes.values() if class_.vendor in vendors)


def page(
    context: Context, actor: Actor, *, state: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` models by id; ``approved`` says whether the caller's tenant may order each."""
    require_read(actor, "model:read")
    with context.db.transaction(actor.scope) as connection:
        rows = model_store.page(connection, state=state, name=name, after=after, limit=limit)
        return _with_approval(connection, actor, rows)


def get(context: Context, actor: Actor, model_id: str) -> Row:
    """Return one model; raises NotFoundError."""
    require_read(actor, "model:read")
    with context.db.transaction(actor.scope) as connection:
        row = model_store.get(connection, model_id)
        if row is None:
            raise not_found("model", model_id)
        (shown,) = _with_approval(connection, actor, [row])
    return shown


def _with_approval(connection: Connection, actor: Actor, rows: Sequence[Row]) -> list[Row]:
    """Add ``approved``: whether the caller's tenant may order a model; None for callers of the factory."""
    if actor.tenant_id is None:
        return [{**row, "approved": None} for row in rows]
    known = model_store.approved_models(connection, actor.tenant_id)
    return [{**row, "approved": not row["needs_approval"] or row["id"] in known} for row in rows]


def approve(context: Context, actor: Actor, model_id: str, tenant_id: str, note: str) -> Row:
    """Let a tenant order a model that needs approval. Repeatable. Raises NotFoundError."""
    with change(context, actor, "model.approve", model_id) as made:
        actor.require("model:approve")
        row = _existing(made.connection, model_id, tenant_id)
        approval = {
            "model_id": row["id"],
            "tenant_id": tenant_id,
            "note": note,
            "approved_by": actor.principal_id,
            "approved_at": context.clock.now(),
        }
        if model_store.approve(made.connection, approval):
            detail = {"name": row["name"], "licence": row["licence"], "note": note}
            made.done("model.approved", row["id"], tenant_id=tenant_id, detail=detail)
    return approval


def withdraw(context: Context, actor: Actor, model_id: str, tenant_id: str) -> None:
    """Let a tenant order a model no longer; what runs on it goes on. Repeatable. Raises NotFoundError."""
    with change(context, actor, "model.withdraw", model_id) as made:
        actor.require("model:approve")
        row = _existing(made.connection, model_id, tenant_id)
        if model_store.withdraw(made.connection, row["id"], tenant_id):
            made.done(
                "model.approval_withdrawn", row["id"], tenant_id=tenant_id, detail={"name": row["name"]}
            )


def approvals(context: Context, actor: Actor, model_id: str, *, after: str | None, limit: int) -> list[Row]:
    """Return up to ``limit`` approvals of a model, by tenant; a tenant sees its own."""
    require_read(actor, "model:read")
    with context.db.transaction(actor.scope) as connection:
        row = model_store.get(connection, model_id)
        if row is None:
            raise not_found("model", model_id)
        return model_store.approvals(connection, row["id"], after=after, limit=limit)


def _existing(connection: Connection, model_id: str, tenant_id: str) -> Row:
    row = model_store.get(connection, model_id)
    if row is None:
        raise not_found("model", model_id)
    if tenant_store.get(connection, tenant_id) is None:
        raise not_found("tenant", tenant_id)
    return row


def retire(context: Context, actor: Actor, model_id: str) -> Row:
    """Let no new service order a model; what runs on it goes on. Repeatable."""
    with change(context, actor, "model.retire", model_id) as made:
        actor.require("model:retire")
        row = model_store.get(made.connection, model_id)
        if row is None:
            raise not_found("model", model_id)
        if row["state"] != "retired":
            model_store.change(made.connection, row["id"], {"state": "retired"})
            made.done("model.retired", row["id"], tenant_id=None, detail={"name": row["name"]})
    return {**row, "state": "retired", "approved": None}
