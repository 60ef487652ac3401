"""What every endpoint shares: the call, the error body, pages, strict request models."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Annotated, Any, cast

import orjson
from fastapi import Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, model_validator

from penstock.actions.authenticate import authenticate
from penstock.actions.context import Actor, Context
from penstock.api.storable import check_storable
from penstock.base import limits


class Strict(BaseModel):
    """Base of request bodies: unknown fields and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        check_storable(value)
        return value


class ErrorDetail(BaseModel):
    """What went wrong and what to do."""

    code: str
    message: str
    field: str | None = None
    data: dict[str, Any] = {}
    request_id: str


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


@dataclass(frozen=True, slots=True)
class Call:
    """One request before authentication. Handlers call ``actor()`` first; the contract test checks it."""

    context: Context
    credential: str | None
    source_address: str
    user_agent: str
    request_id: str

    def actor(self) -> Actor:
        """Authenticate; raises UnauthenticatedError."""
        return authenticate(
            self.context,
            self.credential,
            source_address=self.source_address,
            user_agent=self.user_agent,
            request_id=self.request_id,
        )


async def get_call(request: Request) -> Call:
    """Gather what a handler needs; async because it does no I/O and so costs no thread."""
    if b"%00" in request.scope["query_string"] or "\x00" in request.scope["path"]:
        for name, value in (*request.path_params.items(), *request.query_params.multi_items()):
            check_storable(name)
            check_storable(value, name)
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    return Call(
        context=request.app.state.control_plane.context,
        credential=credential.strip() if scheme.lower() == "bearer" else None,
        source_address=request.client.host if request.client else "unknown",
        user_agent=request.headers.get("user-agent", ""),
        request_id=request.scope.get("penstock_request_id", ""),
    )


Caller = Annotated[Call, Depends(get_call)]
Limit = Annotated[int, Query(ge=1, le=limits.PAGE_MAX, description="items per page")]
After = Annotated[
    str | None, Query(max_length=64, pattern=r"^[a-z0-9_]+$", description="the `next` of the page before")
]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, frozenset | set):
        return sorted(cast("set[str]", value))
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    raise TypeError(f"{type(value).__name__} is not JSON")


def answer(content: Any, status: int = 200) -> Response:
    """Return JSON bytes; instants become ISO 8601 in UTC with a Z."""
    body = orjson.dumps(content, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC)
    return Response(body, status_code=status, media_type="application/json")


def page(items: Sequence[Mapping[str, Any]], limit: int, key: str = "id") -> Response:
    """Answer one page; ``items`` may hold one more than ``limit``, which only says that there is a next."""
    shown = items[:limit]
    return answer({"items": shown, "next": str(shown[-1][key]) if len(items) > limit else None})


# Shared OpenAPI description of the error answers.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        401: "no valid credential",
        403: "not allowed",
        404: "absent or foreign",
        409: "conflict with what is there; see the code",
        413: "body over the limit",
        422: "a value cannot be accepted; `field` names it",
        429: "too many requests",
        503: "a needed part is down; try again",
    }.items()
}
