"""Passages in the order that a reranker gives them: a service of the project that ranks texts by a question.

It is an endpoint elsewhere (offer ``llm-external``) or one of our own whose engine ranks (vLLM); what it reads is in the
books under its own service, as any call.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from penstock.actions.context import Actor, Context
from penstock.base.errors import InvalidInputError, UnavailableError
from penstock.domain.passage import Ranking, ranking_of
from penstock.domain.secret import secret_purpose
from penstock.drivers.inference.client import Target
from penstock.drivers.openai_compatible.config import allowed_networks
from penstock.drivers.openai_compatible.rerank import ask
from penstock.store import endpoint as endpoint_store
from penstock.store.rows import Row


def reranker(connection: Connection, actor: Actor, base: Row, service: str) -> Row:
    """Return a replica of the reranker of that name or id in the project; InvalidInputError (``rerank``), UnavailableError."""
    actor.require("llm:call", base["tenant_id"], base["project_id"])
    found = endpoint_store.reranker(connection, base["project_id"], service)
    if found is None:
        raise InvalidInputError(
            f"the project has no endpoint '{service}' that could rank passages; order one: penstock service order llm-external",
            field="rerank",
        )
    if found["url"] is None:
        raise UnavailableError(f"'{service}' is not running; see `penstock service list` and try again")
    return found


def rank(context: Context, replica: Row, query: str, passages: Sequence[dict[str, Any]]) -> Ranking:
    """Return what the reranker says of passages; raises UnavailableError. Call it outside of any transaction."""
    texts = [str(passage["text"]) for passage in passages]
    body = {"model": replica["model"], "query": query, "documents": texts, "top_n": len(texts)}
    if replica["kind"] == "llm_external":
        secret = None
        if replica["sealed"] is not None:
            try:
                secret = context.vault.open(replica["sealed"], secret_purpose(replica["secret_id"]))
            except ValueError as error:
                raise UnavailableError(
                    "the reranker's secret cannot be opened", internal=repr(error)
                ) from error
        document = ask(replica["url"], body, secret, allowed_networks())
    else:
        target = Target(replica["url"], replica["model"], replica["service_id"], replica["allocation_id"])
        document = context.inference.rerank(target, body)
    try:
        return ranking_of(document, query, texts)
    except ValueError as error:
        raise UnavailableError(
            "the reranker gave an answer that ranks nothing; see whether it is one", internal=str(error)
        ) from error
