"""What an order of kind ``rag`` names looked up, and the knowledge base that it brings."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions import knowledge_base as base_actions
from penstock.actions.context import Actor, Context
from penstock.actions.knowledge_base import Settings
from penstock.base.errors import ConflictError, InvalidInputError
from penstock.domain.knowledge_base import base_id_of
from penstock.store import model as model_store
from penstock.store.rows import Row


def resolve(connection: Connection, project: Row, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec with the id and the model of the shared embedding service that it names, if it names one."""
    named = spec.get("embedding_service")
    if named is None:
        return dict(spec)
    endpoint = base_actions.embedding_service(
        connection, project["id"], named, field="spec.embedding_service"
    )
    return {**spec, "embedding_service": endpoint["service_id"], "embedding_model": endpoint["model"]}


def keep(context: Context, actor: Actor, connection: Connection, service: Row) -> None:
    """Write the knowledge base of a service that was ordered just now, in the transaction of the order.

    Raises ConflictError if its name is taken by a knowledge base of the project, or its prices are not known.
    """
    actor.require("knowledge_base:create", service["tenant_id"], service["project_id"])
    spec = service["spec"]
    model = model_store.get(connection, spec["embedding_model"])
    if model is None or model["dimensions"] is None:
        raise InvalidInputError(f"'{spec['embedding_model']}' makes no vectors", field="spec.embedding_model")
    book = base_actions.pricing(context, connection, model["name"], service["price_book_id"])
    if book is None:
        raise ConflictError(
            "the price book names no price for what knowledge bases count; an operator must publish one for queries, "
            "documents_indexed and chunk_days of '*' before this is sold"
        )
    row = base_actions.new_row(
        context,
        actor,
        {"id": service["project_id"], "tenant_id": service["tenant_id"]},
        base_id=base_id_of(service["id"]),
        name=service["name"],
        description="",
        endpoint={
            "service_id": spec.get("embedding_service") or service["id"],
            "model": model["name"],
            "dimensions": model["dimensions"],
        },
        settings=Settings(spec["language"], spec["chunk_characters"], spec["overlap_characters"]),
        price_book_id=book,
        owner_id=service["id"],
    )
    base_actions.insert(connection, row)
