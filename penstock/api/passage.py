"""Search in a knowledge base, and answers that cite what they stand on."""

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from penstock.actions import passage as passage_actions
from penstock.actions.charge import charged
from penstock.actions.passage import Asked
from penstock.api.edge import ERRORS, Caller, Strict, answer
from penstock.api.fields import TEXT_PATTERN, PathId
from penstock.base import limits
from penstock.domain.knowledge_base import Mode

router = APIRouter(prefix="/v1/knowledge_bases", tags=["knowledge bases"])


class SearchBody(Strict):
    """What to look for."""

    query: str = Field(min_length=1, max_length=limits.QUERY_CHARACTERS_MAX, pattern=TEXT_PATTERN)
    mode: Literal["hybrid", "vector", "text"] = "hybrid"
    limit: int = Field(default=limits.PASSAGES_DEFAULT, ge=1, le=limits.PASSAGES_MAX)
    rerank: str | None = Field(
        default=None,
        min_length=1,
        max_length=limits.NAME_CHARACTERS_MAX,
        pattern=TEXT_PATTERN,
        description="name or id of an endpoint of the project that ranks passages (`/v1/rerank` of its engine). null: none does",
    )


class QuestionBody(Strict):
    """A question for a text model of the project, answered from what is found."""

    question: str = Field(min_length=1, max_length=limits.QUERY_CHARACTERS_MAX, pattern=TEXT_PATTERN)
    service: str = Field(
        min_length=1,
        max_length=limits.NAME_CHARACTERS_MAX,
        pattern=TEXT_PATTERN,
        description="name or id of a service of the project that writes text (offer `llm`)",
    )
    passages: int = Field(default=limits.PASSAGES_DEFAULT, ge=1, le=limits.PASSAGES_MAX)
    max_tokens: int = Field(default=256, ge=1, le=limits.ANSWER_TOKENS_MAX)


class PassageOut(BaseModel):
    """A piece of a document: which version, under which heading or on which page, and where in its text."""

    document_id: str
    document_name: str
    version: int
    position: int
    heading: str | None
    page: int | None
    start_character: int
    end_character: int
    text: str
    score: float
    similarity: float | None
    rank_vector: int | None
    rank_text: int | None
    rerank_score: float | None


class CostOut(BaseModel):
    """Tokens of one call with its record in the ledger; ``price_microeur`` is rounded by itself."""

    record_id: str
    service_id: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    price_microeur: int | None


class ChargeOut(BaseModel):
    """The exact part that an answer has in an invoice line of that service, meter and item.

    A pico-euro is a millionth of a micro-euro. The parts of a line, added up over all answers of the month and rounded
    half to even once, are the line's amount.
    """

    service_id: str
    meter: str
    item: str
    quantity: int
    quantity_per_unit: int
    microeur_per_unit: int
    price_picoeur: int


class PricedOut(BaseModel):
    """What an answer is charged; None where something has no price. ``price_microeur`` is rounded by itself."""

    charges: list[ChargeOut]
    price_picoeur: int | None
    price_microeur: int | None


class SearchOut(PricedOut):
    """Passages, best first; empty if nothing speaks of it."""

    passages: list[PassageOut]
    costs: list[CostOut]


class CitationOut(PassageOut):
    """A passage that the answer was given from, by its number in the answer."""

    number: int


class AnswerOut(PricedOut):
    """An answer; ``found`` false: nothing was found, and no model was asked to invent something."""

    answer: str
    found: bool
    citations: list[CitationOut]
    costs: list[CostOut]


@router.post("/{knowledge_base_id}/search", responses={200: {"model": SearchOut}, **ERRORS})
def search(call: Caller, knowledge_base_id: PathId, body: SearchBody) -> Response:
    """Search by meaning and by words; nothing found is an empty list."""
    found = passage_actions.search(
        call.context,
        call.actor(),
        knowledge_base_id,
        query=body.query,
        mode=Mode(body.mode),
        limit=body.limit,
        rerank=body.rerank,
    )
    shown: dict[str, Any] = {
        "passages": found.passages,
        "costs": [cost.shown for cost in found.costs],
        **charged(found.parts),
    }
    return answer(shown)


@router.post("/{knowledge_base_id}/answers", responses={200: {"model": AnswerOut}, **ERRORS})
def ask(call: Caller, knowledge_base_id: PathId, body: QuestionBody) -> Response:
    """Answer a question from what is found, with citations; "no answer found" where nothing is."""
    asked = Asked(body.question, body.service, body.passages, body.max_tokens)
    return answer(passage_actions.answer(call.context, call.actor(), knowledge_base_id, asked))
