"""Weights of models on nodes: which node holds what, and giving copies up."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel

from penstock.actions import weights as weights_actions
from penstock.api.edge import ERRORS, After, Caller, Limit, answer, page
from penstock.api.fields import TEXT_PATTERN, IdFilter, PathId
from penstock.base import limits
from penstock.domain.weights import WEIGHTS_STATE_SENTENCES, WeightsState
from penstock.store.rows import Row

router = APIRouter(prefix="/v1/weights", tags=["models"])
ModelFilter = Annotated[
    str | None,
    Query(max_length=limits.NAME_CHARACTERS_MAX, pattern=TEXT_PATTERN, description="its name or id"),
]


class WeightsOut(BaseModel):
    """A node's copy of a model's weights, as the node said last.

    ``models`` are the models of that content. ``in_place``: it is the folder that the model was added from, no copy.
    ``in_use``: an engine of the node runs from it. ``unwanted``: it goes as soon as none does.
    """

    id: str
    node_id: str
    node_name: str
    models: list[str]
    sha256: str
    state: str
    state_sentence: str
    message: str
    size_bytes: int
    held_bytes: int
    in_place: bool
    in_use: bool
    unwanted: bool
    created_at: datetime
    seen_at: datetime


class WeightsPage(BaseModel):
    """A page of copies."""

    items: list[WeightsOut]
    next: str | None


def out(row: Row) -> dict[str, Any]:
    """Return a copy as the API shows it."""
    shown = {name: row[name] for name in WeightsOut.model_fields if name in row}
    return {**shown, "state_sentence": WEIGHTS_STATE_SENTENCES[WeightsState(row["state"])]}


@router.get("", responses={200: {"model": WeightsPage}, **ERRORS})
def list_weights(
    call: Caller,
    node_id: IdFilter = None,
    model: ModelFilter = None,
    after: After = None,
    limit: Limit = limits.PAGE_DEFAULT,
) -> Response:
    """List the copies of models' weights on nodes (operators)."""
    rows = weights_actions.page(
        call.context, call.actor(), node_id=node_id, model=model, after=after, limit=limit + 1
    )
    return page([out(row) for row in rows], limit)


@router.get("/{weights_id}", responses={200: {"model": WeightsOut}, **ERRORS})
def get_weights(call: Caller, weights_id: PathId) -> Response:
    """Show one copy (operators)."""
    return answer(out(weights_actions.get(call.context, call.actor(), weights_id)))


@router.delete("/{weights_id}", status_code=202, responses={202: {"model": WeightsOut}, **ERRORS})
def give_up_weights(call: Caller, weights_id: PathId) -> Response:
    """Have a node give its copy up, as soon as no engine there uses it (operators)."""
    return answer(out(weights_actions.give_up(call.context, call.actor(), weights_id)), 202)
