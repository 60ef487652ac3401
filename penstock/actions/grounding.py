"""What a conversation through the gateway is grounded on: passages of a knowledge base, found for its last question.

The gateway asks for it when a model is called as `MODEL+kb:KNOWLEDGE_BASE`. It has authenticated the key; what the key
may read is decided here, as for a search over the API. The model's service and the knowledge base are of one project.
"""

from dataclasses import dataclass
from typing import Any

from penstock.actions import passage as passage_actions
from penstock.actions.authenticate import for_gateway
from penstock.actions.charge import charged, price_book
from penstock.actions.context import Actor, Context, not_found
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.domain.knowledge_base import Mode
from penstock.domain.passage import NOTHING_FOUND, citations, fitting, messages
from penstock.domain.price import Meter
from penstock.store import knowledge_base as base_store
from penstock.store import model as model_store
from penstock.store import service as service_store
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class Conversation:
    """The question of a conversation, who asks which service, and the most tokens of the answer."""

    key_id: str
    service_id: str
    knowledge_base: str
    question: str
    tokens_max: int
    request_id: str


def ground(context: Context, asked: Conversation) -> dict[str, Any]:
    """Return ``messages`` for the model with what was found, its ``citations`` and ``costs``.

    ``found`` false: nothing speaks of it, ``text`` says so, and no model is to be asked. Raises NotFoundError for a
    knowledge base that is not there or foreign, ForbiddenError, QuotaExceededError, UnavailableError.
    """
    if not asked.question.strip():
        raise InvalidInputError("the last message of the user has no text to search for", field="messages")
    actor = for_gateway(context, asked.key_id, asked.request_id)
    with context.db.transaction(actor.scope) as connection:
        service = service_store.get(connection, asked.service_id)
        if service is None:
            raise not_found("service", asked.service_id)
        actor.require("llm:call", service["tenant_id"], service["project_id"])
        # Said before it is looked up: a key that may only call models would otherwise hear that there is none.
        actor.require("knowledge_base:search", service["tenant_id"], service["project_id"])
        named = base_store.page(
            connection,
            tenant_id=service["tenant_id"],
            project_ids={service["project_id"]},
            name=asked.knowledge_base,
            after=None,
            limit=1,
        )
        base = named[0] if named else base_store.get(connection, asked.knowledge_base)
        if base is None or base["project_id"] != service["project_id"]:
            raise not_found("knowledge_base", asked.knowledge_base)
        model = model_store.get(connection, str(service["spec"]["model"]))
    question = asked.question[: limits.QUERY_CHARACTERS_MAX]
    found = passage_actions.search(
        context, actor, base["id"], query=question, mode=Mode.HYBRID, limit=limits.PASSAGES_DEFAULT
    )
    # The model's, not a replica's: an endpoint that sleeps has none yet and answers all the same.
    context_tokens = None if model is None else model["context_tokens"]
    room = (context_tokens or limits.CONTEXT_UNKNOWN_TOKENS) - asked.tokens_max
    passages = fitting(found.passages, room)
    return {
        "knowledge_base": base["id"],
        "found": bool(passages),
        "text": NOTHING_FOUND,
        "messages": messages(asked.question, passages),
        "citations": citations(passages),
        "costs": [cost.shown for cost in found.costs],
        **charged(found.parts),
        "prices": _prices(context, actor, service),
    }


def _prices(context: Context, actor: Actor, service: Row) -> dict[str, Any]:
    """Return what the gateway charges the model's tokens at: item, and micro-euro per million in and out, None: no price."""
    item = str(service["spec"]["model"])
    with context.db.transaction(actor.scope) as connection:
        book = price_book(context, connection, service["price_book_id"])
    found = {
        meter: None if book is None else book.find(meter, item)
        for meter in (Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)
    }
    prices = {meter.value: None if one is None else one.microeur_per_unit for meter, one in found.items()}
    return {"service_id": service["id"], "item": item, **prices}
