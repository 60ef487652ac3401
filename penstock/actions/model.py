"""Models: added by an operator from a local folder, seeded with the shipped ones, retired."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.actions.device_class import require_read
from penstock.actions.model_folder import inspect_folder
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.api_key import digest
from penstock.drivers.ctranslate2.checkpoint import (
    DEMO_MODEL_NAME,
    check_layout,
    demo_model_dir,
    inspect_model_folder,
    packaged_facts,
)
from penstock.drivers.ctranslate2.packaged import EMBEDDING_MODEL_NAME, embedding_model_dir
from penstock.store import model as model_store
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


def add(context: Context, actor: Actor, *, folder: str, name: str | None, licence: str | None) -> Row:
    """Add the model in ``folder`` of the control plane's host, under its own name or ``name``.

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
    row = _described(context, facts, chosen, licence)
    with change(context, actor, "model.add", row["id"]) as made:
        if not model_store.add(made.connection, row):
            raise ConflictError(
                f"there is a model '{row['name']}' already; give this one another name", field="name"
            )
        detail = {key: row[key] for key in ("name", "format", "folder", "size_bytes", "licence", "sha256")}
        made.done("model.added", row["id"], tenant_id=None, detail=detail)
    return row


def _described(
    context: Context, facts: Mapping[str, Any], name: str, licence: str | None = None
) -> dict[str, Any]:
    files: Mapping[str, Mapping[str, Any]] = facts["files"]
    listing = "\n".join(f"{file} {about['sha256']}" for file, about in sorted(files.items()))
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
        "sha256": digest(listing),
        "engines": engines,
        "device_classes": [*processors, *_classes_of(context, vendors)],
        "demonstration": facts["demonstration"],
        "kind": facts["kind"],
        "dimensions": facts["dimensions"],
        "state": "active",
        "created_at": context.clock.now(),
    }


def _classes_of(context: Context, vendors: frozenset[str]) -> Sequence[str]:
    return sorted(class_.name for class_ in context.device_classes.values() if class_.vendor in vendors)


def page(
    context: Context, actor: Actor, *, state: str | None, name: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` models by id."""
    require_read(actor, "model:read")
    with context.db.transaction(actor.scope) as connection:
        return model_store.page(connection, state=state, name=name, after=after, limit=limit)


def get(context: Context, actor: Actor, model_id: str) -> Row:
    """Return one model; raises NotFoundError."""
    require_read(actor, "model:read")
    with context.db.transaction(actor.scope) as connection:
        row = model_store.get(connection, model_id)
    if row is None:
        raise not_found("model", model_id)
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
    return {**row, "state": "retired"}
