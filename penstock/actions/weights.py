"""Weights of models on nodes: what agents say they hold, what they may fetch, and what operators want given up."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import Connection

from penstock.actions.change import change
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from penstock.base.units import format_bytes
from penstock.domain.weights import Copy, File, Listing, is_digest
from penstock.store import event as event_store
from penstock.store import model as model_store
from penstock.store import weights as weights_store
from penstock.store.database import SYSTEM
from penstock.store.event import NewEvent
from penstock.store.rows import Row


def take(context: Context, agent_id: str, copies: Sequence[Copy]) -> list[str]:
    """Note what the node of an agent has of weights: this and nothing else; return the digests it is to give up.

    Of an agent with several nodes, or none, nothing is noted. InvalidInputError names what cannot be.
    """
    if len(copies) > limits.WEIGHTS_COPIES_PER_NODE_MAX:
        raise InvalidInputError(
            f"a node has at most {limits.WEIGHTS_COPIES_PER_NODE_MAX} copies", field="copies"
        )
    said = {copy.sha256: copy for copy in copies}
    for digest in said:
        if not is_digest(digest):
            raise InvalidInputError("64 hexadecimal digits", field="copies.sha256")

    def work(connection: Connection) -> list[str]:
        node = weights_store.node_of(connection, agent_id)
        if node is None:
            return []
        before, now = weights_store.of_node(connection, node["id"]), context.clock.now()
        gone = [digest for digest in before if digest not in said]
        weights_store.remove(connection, node["id"], gone)
        weights_store.put(connection, node["id"], list(said.values()), now, lambda: context.new_id("weights"))
        news = [
            _event(node, copy.sha256, copy.state.value, copy, now)
            for copy in said.values()
            if copy.sha256 not in before or before[copy.sha256]["state"] != copy.state.value
        ]
        news += [_event(node, digest, "dropped", None, now) for digest in gone]
        event_store.emit_many(connection, news)
        return [digest for digest, row in before.items() if row["unwanted"] and digest in said]

    return context.db.retrying(SYSTEM, work)


def _event(node: Row, sha256: str, what: str, copy: Copy | None, now: datetime) -> NewEvent:
    data = {"node": node["name"], "sha256": sha256}
    if copy is not None:
        data |= {"size_bytes": copy.size_bytes, "message": copy.message}
    return NewEvent(now, f"weights.{what}", str(node["id"]), None, None, data)


def listing(context: Context, agent_id: str, sha256: str) -> Listing:
    """Return the files of an artefact that an engine on an agent's nodes runs from; NotFoundError for any other."""
    _, files = _wanted(context, agent_id, sha256)
    return files


def file(context: Context, agent_id: str, sha256: str, name: str) -> tuple[Path, File]:
    """Return where one of its files is, on this machine; UnavailableError where that is another replica's."""
    row, files = _wanted(context, agent_id, sha256)
    found = next((one for one in files.files if one.name == name), None)
    if found is None:
        raise NotFoundError(f"the artefact '{sha256}' has no file '{name}'")
    folder = Path(row["folder"])
    path = folder / name
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise UnavailableError(
            f"the file {name} of the model '{row['name']}' is not in its folder on this replica's machine"
        )
    if path.stat().st_size != found.size_bytes:
        raise UnavailableError(
            f"the file {name} of the model '{row['name']}' has {path.stat().st_size} bytes and was added with "
            f"{found.size_bytes}: its folder has changed; put the file back, or add the model again"
        )
    return path, found


def _wanted(context: Context, agent_id: str, sha256: str) -> tuple[Row, Listing]:
    with context.db.transaction(SYSTEM) as connection:
        row = weights_store.model_of(connection, sha256) if is_digest(sha256) else None
        if row is None or not weights_store.wanted_at(connection, agent_id, sha256):
            raise NotFoundError(f"no artefact '{sha256[:64]}' is wanted of this agent")
    return row, listing_of(row)


def listing_of(row: Row) -> Listing:
    """Return the files of a model's row."""
    files = (
        File(name, int(about["size_bytes"]), str(about["sha256"])) for name, about in row["files"].items()
    )
    return Listing(tuple(sorted(files, key=lambda one: one.name)), row["url"])


def page(
    context: Context, actor: Actor, *, node_id: str | None, model: str | None, after: str | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` copies by id, of one node, of one model (id or name), or all; operators' alone."""
    actor.require("weights:read")
    with context.db.transaction(actor.scope) as connection:
        sha256: str | None = None
        if model is not None:
            row = model_store.get(connection, model)
            if row is None:
                raise not_found("model", model)
            sha256 = str(row["sha256"])
        return weights_store.page(connection, node_id=node_id, sha256=sha256, after=after, limit=limit)


def get(context: Context, actor: Actor, weights_id: str) -> Row:
    """Return one copy; raises NotFoundError."""
    actor.require_visible("weights", None, None, weights_id)
    with context.db.transaction(actor.scope) as connection:
        return _existing(connection, weights_id)


def give_up(context: Context, actor: Actor, weights_id: str) -> Row:
    """Have a node give up its copy, as soon as no engine there uses it. Repeatable.

    Raises NotFoundError, and ConflictError for what is no copy but the very folder that the model was added from.
    """
    with change(context, actor, "weights.give_up", weights_id) as made:
        actor.require_visible("weights", None, None, weights_id)
        actor.require("weights:write")
        row = _existing(made.connection, weights_id)
        if row["in_place"]:
            raise ConflictError(
                f"on node '{row['node_name']}' these weights are the folder that the model was added from, no copy"
            )
        if not row["unwanted"]:
            weights_store.give_up(made.connection, weights_id)
            detail = {
                "node": row["node_name"],
                "models": list(row["models"]),
                "size": format_bytes(row["size_bytes"]),
            }
            made.done("weights.unwanted", weights_id, tenant_id=None, detail=detail)
    return {**row, "unwanted": True}


def _existing(connection: Connection, weights_id: str) -> Row:
    row = weights_store.get(connection, weights_id)
    if row is None:
        raise not_found("weights", weights_id)
    return row
