"""Passages: what a knowledge base says about a question, and answers that cite it."""

import os
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import Counter, Histogram
from sqlalchemy.engine import Connection

from penstock.actions import knowledge_base as base_actions
from penstock.actions.charge import Cost, book_call, charged, charges_of, price_book
from penstock.actions.context import Actor, Context
from penstock.actions.rerank import rank, reranker
from penstock.actions.spent import require_money
from penstock.base import limits
from penstock.base.errors import InvalidInputError, QuotaExceededError, UnavailableError
from penstock.domain.knowledge_base import SIMILARITY_FLOOR_PPM, KnowledgeMeter, Mode, Ranked, fuse
from penstock.domain.passage import NOTHING_FOUND, citations, fitting, messages
from penstock.domain.price import Meter
from penstock.domain.quota import Measure, check_call
from penstock.drivers.inference.client import Target
from penstock.rating.charge import Charge
from penstock.store import autoscale as autoscale_store
from penstock.store import endpoint as endpoint_store
from penstock.store import knowledge_base as base_store
from penstock.store import quota as quota_store
from penstock.store.rows import Row

SEARCHES = Counter(
    "penstock_knowledge_searches_total", "Searches by mode and whether anything was found.", ("mode", "found")
)
SECONDS = Histogram(
    "penstock_knowledge_search_seconds",
    "Time of one search, the question's vector included.",
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3, 1, 3),
)
_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """Passages, best first, the calls that finding them took, and the charge for the question itself."""

    passages: list[dict[str, Any]]
    costs: tuple[Cost, ...]
    asked: tuple[Charge, ...]

    @property
    def parts(self) -> list[tuple[Charge, ...] | None]:
        """Return all charges, by what made them."""
        return [*(cost.charges for cost in self.costs), self.asked]


def search(
    context: Context,
    actor: Actor,
    base_id: str,
    *,
    query: str,
    mode: Mode,
    limit: int,
    rerank: str | None = None,
) -> Found:
    """Return the passages of a knowledge base that speak of ``query``, best first; none, if nothing does.

    A passage that holds no word of the question must be near it (cosine of at least 0.3). ``rerank`` names a service of
    the project that gives the best ones their order. Raises UnavailableError if that or the embedding service does not
    answer, QuotaExceededError without tokens left, RateLimitedError if the month's money is spent.
    """
    began = context.clock.monotonic()
    with context.db.transaction(actor.scope) as connection:
        base = base_actions.active(connection, actor, base_id)
        actor.require("knowledge_base:search", base["tenant_id"], base["project_id"])
        limited = _check_tokens(context, connection, base)
        require_money(context, connection, actor, base["tenant_id"], base["project_id"])
        replicas = endpoint_store.replicas(connection, base["service_id"], embeds=True)
        needed = mode is not Mode.TEXT and autoscale_store.demand(
            connection, base["service_id"], context.clock.now()
        )
        ranks = None if rerank is None else reranker(connection, actor, base, rerank)
    if needed:
        context.wakeups.signal("autoscale")
    if not query.strip():
        raise InvalidInputError("the question is empty", field="query")
    most = max(limits.PASSAGES_PER_RANKING, limit)
    wide = limit if ranks is None else max(limits.PASSAGES_RERANKED, 2 * limit)
    vector: str | None = None
    calls: list[_Call] = []
    words: Future[list[Row]] | None = None
    if mode is Mode.HYBRID:  # while the question's vector is made
        words = context.searches.submit(_words, context, actor, base, query, most)
    started = context.clock.now()
    if mode is not Mode.TEXT:
        replica = _some(replicas, "the embedding service of this knowledge base is not running")
        made = context.inference.embed(
            _target(replica), [query], base["dimensions"], replica["context_tokens"]
        )
        vector = made.vectors[0]
        calls.append(_Call(replica, made.tokens, started))
    near = [] if vector is None else _near(context, actor, base, vector, most)
    if words is not None:  # with no connection in hand: that search may wait for one
        worded = words.result()
    else:
        worded = _words(context, actor, base, query, most) if mode is Mode.TEXT else []
    with context.db.transaction(actor.scope) as connection:
        passages = _passages(connection, base, near, worded, wide)
    if ranks is not None and passages:
        passages = _ranked(context, ranks, query, passages, calls)[:limit]
    with context.db.transaction(actor.scope) as connection:
        costs, charges = _settle(context, connection, actor, base, calls, limited=limited)
    SEARCHES.labels(mode, "yes" if passages else "no").inc()
    SECONDS.observe(context.clock.monotonic() - began)
    return Found(passages, costs, charges)


def _ranked(
    context: Context, ranks: Row, query: str, passages: list[dict[str, Any]], calls: "list[_Call]"
) -> list[dict[str, Any]]:
    """Return passages in the order that a reranker gives them, and add its call to ``calls``."""
    asked = context.clock.now()
    ranking = rank(context, ranks, query, passages)
    calls.append(_Call(ranks, ranking.tokens, asked, estimated=ranking.estimated))
    return [{**passages[at], "rerank_score": score} for at, score in ranking.order]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that read something, to be written into the books."""

    replica: Row
    tokens: int
    started: datetime
    estimated: bool = False


def _settle(
    context: Context,
    connection: Connection,
    actor: Actor,
    base: Row,
    calls: Sequence[_Call],
    *,
    limited: bool,
) -> tuple[tuple[Cost, ...], tuple[Charge, ...]]:
    """Write calls and the question itself into the books; return what each is charged."""
    costs = tuple(
        book_call(
            context,
            connection,
            actor,
            base,
            call.replica,
            prompt_tokens=call.tokens,
            completion_tokens=0,
            started=call.started,
            estimated=call.estimated,
        )
        for call in calls
    )
    return costs, _count(context, connection, actor, base, limited=limited)


def _count(
    context: Context, connection: Connection, actor: Actor, base: Row, *, limited: bool
) -> tuple[Charge, ...]:
    """Count a question, unless the quota of questions a day (``limited``) is used up; return what it is charged."""
    now = context.clock.now()
    if limited:
        breach = quota_store.check_query(connection, base["tenant_id"], base["project_id"], now)
        if breach is not None:
            raise QuotaExceededError(breach.sentence, data={"dimension": breach.line.dimension})
    base_store.meter(connection, base, now.date(), {KnowledgeMeter.QUERIES: 1}, actor.key_id)
    book = price_book(context, connection, base["price_book_id"])
    if book is None:  # made before there were prices: not charged
        return ()
    return charges_of(book, base_store.charged_to(base), base["model"], {Meter.QUERIES: 1}) or ()


def _near(context: Context, actor: Actor, base: Row, vector: str, most: int) -> list[Row]:
    """Return the passages nearest to a vector, nearest first."""
    with context.db.transaction(actor.scope) as connection:
        return base_store.near(connection, base["id"], vector, most)


def _words(context: Context, actor: Actor, base: Row, query: str, most: int) -> list[Row]:
    """Return the passages that hold words of a question, best first, in a transaction of its own."""
    with context.db.transaction(actor.scope) as connection:
        return base_store.with_words(connection, base, query, most)


def _passages(
    connection: Connection, base: Row, near: list[Row], words: list[Row], limit: int
) -> list[dict[str, Any]]:
    """Return what stands in the best passages of both rankings."""
    near = [row for row in near if row["score"] * _PPM >= SIMILARITY_FLOOR_PPM]
    rankings = {"vector": [_key(row) for row in near], "text": [_key(row) for row in words]}
    similar = {_key(row): row["score"] for row in near}
    best = fuse(rankings, limit)
    parts = [_parts(one.key) for one in best]
    read = {_key(row): row for row in base_store.read_chunks(connection, base["id"], parts)} if parts else {}
    return [_shown(one, read[one.key], similar.get(one.key)) for one in best if one.key in read]


def _key(row: Row) -> str:
    return f"{row['document_id']} {row['version']} {row['position']}"


def _parts(key: str) -> dict[str, Any]:
    document_id, version, position = key.split(" ")
    return {"document_id": document_id, "version": int(version), "position": int(position)}


def _shown(one: Ranked, row: Row, similarity: float | None) -> dict[str, Any]:
    return {
        "document_id": row["document_id"],
        "document_name": row["document_name"],
        "version": row["version"],
        "position": row["position"],
        "heading": row["heading"] or None,
        "page": row["page"],
        "start_character": row["start_character"],
        "end_character": row["end_character"],
        "text": row["content"],
        "score": round(one.score, 6),
        "similarity": None if similarity is None else round(similarity, 4),
        "rank_vector": one.places.get("vector"),
        "rank_text": one.places.get("text"),
        "rerank_score": None,
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to be answered by a text model of the project."""

    question: str
    service: str
    passages: int
    tokens_max: int


def answer(context: Context, actor: Actor, base_id: str, asked: Asked) -> dict[str, Any]:
    """Answer from the passages found, citing them; without any, say so and ask no model."""
    found = search(context, actor, base_id, query=asked.question, mode=Mode.HYBRID, limit=asked.passages)
    if not found.passages:
        return _answered(NOTHING_FOUND, [], found, None)
    with context.db.transaction(actor.scope) as connection:
        base = base_actions.active(connection, actor, base_id)
        endpoint = endpoint_store.find(connection, base["project_id"], asked.service)
        if endpoint is None or endpoint["kind"] != "generation":
            raise InvalidInputError(
                f"the project has no service '{asked.service}' that writes text", field="service"
            )
        actor.require("llm:call", base["tenant_id"], base["project_id"])
        replicas = endpoint_store.replicas(connection, endpoint["service_id"])
        needed = autoscale_store.demand(connection, endpoint["service_id"], context.clock.now())
    if needed:
        context.wakeups.signal("autoscale")
    replica = _some(replicas, f"'{asked.service}' is not running")
    passages = fitting(found.passages, replica["context_tokens"] - asked.tokens_max)
    started = context.clock.now()
    text = context.inference.chat(_target(replica), messages(asked.question, passages), asked.tokens_max)
    with context.db.transaction(actor.scope) as connection:
        cost = book_call(
            context,
            connection,
            actor,
            base,
            replica,
            prompt_tokens=text.prompt_tokens,
            completion_tokens=text.completion_tokens,
            started=started,
        )
    return _answered(text.text, passages, found, cost)


def _answered(
    text: str, passages: Sequence[dict[str, Any]], found: Found, cost: Cost | None
) -> dict[str, Any]:
    costs = found.costs if cost is None else (*found.costs, cost)
    return {
        "answer": text,
        "found": NOTHING_FOUND not in text,
        "citations": citations(passages),
        "costs": [one.shown for one in costs],
        **charged([*found.parts, *([] if cost is None else [cost.charges])]),
    }


def _check_tokens(context: Context, connection: Connection, base: Row) -> bool:
    """Raise QuotaExceededError if nothing may be asked; tell whether there is a quota of questions a day."""
    asked = (Measure.QUERIES_PER_DAY.value,)
    lines = quota_store.lines_for_order(
        connection, base["tenant_id"], base["project_id"], asked, context.clock.now()
    )
    breach = check_call(lines)
    if breach is not None:
        raise QuotaExceededError(breach.sentence, data={"dimension": breach.line.dimension})
    return any(line.dimension in asked for line in lines)


def _some(replicas: Sequence[Row], sentence: str) -> Row:
    if not replicas:
        raise UnavailableError(f"{sentence}; see `penstock service list` and try again")
    return replicas[os.urandom(1)[0] % len(replicas)]


def _target(replica: Row) -> Target:
    return Target(replica["url"], replica["model"], replica["service_id"], replica["allocation_id"])
