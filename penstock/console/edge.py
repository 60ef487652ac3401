"""What every page shares: the visit of a signed-in person, forms, refusals as pages, and the wrapping of handlers.

A handler is a plain function from a ``Visit`` to a response and runs in a thread. Whoever is not signed in is
sent to the log-in page; what an action refuses becomes a page with its sentence and its status.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.actions import session as session_actions
from penstock.actions import whoami as whoami_actions
from penstock.actions.authenticate import authenticate
from penstock.actions.context import Actor, Context
from penstock.base import limits
from penstock.base.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    PenstockError,
    UnauthenticatedError,
)
from penstock.console.notice import leave_notice, take_notice
from penstock.console.render import render
from penstock.console.secure import BASE, SESSION_COOKIE, secured, theme_of

log = structlog.get_logger(__name__)

FORM_FIELDS_MAX = 2_000
TENANT_NAMES_MAX = 10_000
LIVE_HEADER = "x-penstock-live"  # a page that refreshes itself: no sign of a person

Values = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a signed-in person."""

    context: Context
    actor: Actor
    request: Request
    form: Values
    session_text: str

    def query(self, name: str, default: str = "") -> str:
        """Return a query parameter, stripped."""
        return self.request.query_params.get(name, default).strip()[: limits.TEXT_CHARACTERS_MAX]

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def field(self, name: str, default: str = "") -> str:
        """Return a field of the form, stripped."""
        values = self.form.get(name)
        return values[0].strip() if values else default

    def whole(self, name: str, what: str) -> int:
        """Return a field of the form as a whole number; InvalidInputError names it."""
        text = self.field(name)
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise InvalidInputError(f"{what}: give a whole number", field=name)
        return int(text)

    @property
    def csrf(self) -> str:
        """Return the token that forms of this session carry."""
        return csrf_token(self.session_text)

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page with the frame around it."""
        shown = take_notice(self.request)
        body = render(
            template, visit=self, actor=self.actor, notice=shown, theme=theme_of(self.request), **values
        )
        response = secured(Response(body, status_code=status, media_type="text/html"))
        if shown is not None:
            leave_notice(response, None)
        return response

    def part(self, template: str, **values: Any) -> Response:
        """Return a piece of a page, without the frame."""
        body = render(template, visit=self, actor=self.actor, **values)
        return secured(Response(body, media_type="text/html"))

    def go(self, path: str, notice: str | None = None) -> Response:
        """Send the browser to another page of the console, which says ``notice`` once."""
        response = secured(RedirectResponse(f"{BASE}{path}", status_code=303))
        if notice is not None:
            leave_notice(response, notice)
        return response

    @property
    def tenant_name(self) -> str:
        """Return the name of the visitor's tenant; it never changes, so each process asks once."""
        if self.actor.tenant_id is None:
            return "the factory"
        known: dict[str, str] = self.request.app.state.tenant_names
        if self.actor.tenant_id not in known:
            tenant = whoami_actions.whoami(self.context, self.actor)["tenant"]
            if len(known) > TENANT_NAMES_MAX:
                known.clear()
            known[self.actor.tenant_id] = tenant["name"] if tenant else ""
        return known[self.actor.tenant_id]

    def require_proof(self) -> None:
        """Raise ProofWanted unless the password was given a moment ago."""
        if not self.context.is_proved(self.actor):
            raise ProofWanted


class ProofWanted(Exception):  # noqa: N818 - a turn to another page, not an error
    """The password is needed again."""


Handler = Callable[[Visit], Response]


def get(path: str, handler: Handler) -> Route:
    """Return the route of a page."""
    return Route(path, _endpoint(handler, changes=False, proof_at=None), methods=["GET"])


def post(path: str, handler: Handler, *, proof_at: str | None = None) -> Route:
    """Return the route of a change. ``proof_at``: it needs a fresh password, asked for on the way to that page."""
    return Route(path, _endpoint(handler, changes=True, proof_at=proof_at), methods=["POST"])


def csrf_token(session_text: str) -> str:
    """Return the token that proves a form came from a page of this session."""
    key = hashlib.sha256(session_text.encode()).digest()
    return hmac.new(key, b"penstock console form", hashlib.sha256).hexdigest()[:40]


def _endpoint(handler: Handler, *, changes: bool, proof_at: str | None) -> Callable[..., Any]:
    async def endpoint(request: Request) -> Response:
        try:
            form: Values = await read_form(request) if changes else {}
        except InvalidInputError as error:
            return refusal(request, error, None)
        return await run_in_threadpool(
            partial(_serve, handler, request, form, changes=changes, proof_at=proof_at)
        )

    return endpoint


def _serve(
    handler: Handler, request: Request, form: Values, *, changes: bool, proof_at: str | None
) -> Response:
    """Serve one request in a thread."""
    visit: Visit | None = None
    try:
        check_texts(request)
        visit = visit_of(request, form)
        if changes:
            _check_csrf(visit)
            if proof_at is not None:
                visit.require_proof()
        if LIVE_HEADER not in request.headers:
            session_actions.keep(visit.context, visit.actor)
        return handler(visit)
    except UnauthenticatedError:
        return to_log_in(request)
    except ProofWanted:
        back = proof_at.format(**request.path_params) if proof_at else here(request)
        return secured(RedirectResponse(f"{BASE}/proof?next={quote(back)}", status_code=303))
    except PenstockError as error:
        return refusal(request, error, visit)


def check_request(request: Request, form: Values) -> Visit:
    """Return the visit of a change that is served by hand, such as a stream; raises what refuses it."""
    check_texts(request)
    visit = visit_of(request, form)
    _check_csrf(visit)
    session_actions.keep(visit.context, visit.actor)
    return visit


def visit_of(request: Request, form: Values) -> Visit:
    """Return the visit of a request; UnauthenticatedError if nobody is signed in."""
    context: Context = request.app.state.control_plane.context
    text = request.cookies.get(SESSION_COOKIE)
    actor = authenticate(
        context,
        text,
        source_address=request.client.host if request.client else "unknown",
        user_agent=request.headers.get("user-agent", ""),
        request_id=request.scope.get("penstock_request_id", ""),
    )
    if not actor.via_password or text is None:
        raise UnauthenticatedError("the console is entered with a password")
    return Visit(context, actor, request, form, text)


def here(request: Request) -> str:
    """Return the path and query of a request within the console."""
    path = request.url.path.removeprefix(BASE) or "/"
    return f"{path}?{request.url.query}" if request.url.query else path


def to_log_in(request: Request) -> Response:
    """Send somebody who is not signed in to the log-in page, and back afterwards."""
    if LIVE_HEADER in request.headers or "hx-request" in request.headers:
        response = Response(status_code=401, headers={"HX-Redirect": f"{BASE}/login"})
        return secured(response)
    wanted = here(request) if request.method == "GET" else "/"
    tail = "" if wanted == "/" else f"?{urlencode({'next': wanted})}"
    return secured(RedirectResponse(f"{BASE}/login{tail}", status_code=303))


def refusal(request: Request, error: PenstockError, visit: Visit | None) -> Response:
    """Return what an action refused as a page with its sentence."""
    if error.internal:
        log.warning("request_refused", code=error.code, internal=error.internal)
    values: dict[str, Any] = {
        "error": error,
        "request_id": request.scope.get("penstock_request_id", ""),
        "theme": theme_of(request),
    }
    if "hx-request" in request.headers:
        body = render("refusal_part.html", **values)
    else:
        body = render(
            "refusal.html", visit=visit, actor=visit.actor if visit else None, notice=None, **values
        )
    return secured(Response(body, status_code=error.status, media_type="text/html"))


def _check_csrf(visit: Visit) -> None:
    given = visit.field("csrf") or visit.request.headers.get("x-csrf-token", "")
    if not hmac.compare_digest(given.encode(), visit.csrf.encode()):
        raise ForbiddenError(
            "this form is of another session or too old; go back, reload the page and send it again"
        )
    check_origin(visit.request)


def check_origin(request: Request) -> None:
    """Raise ForbiddenError if a browser says that the form came from another site."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ForbiddenError("this form came from another site; nothing was done")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise ForbiddenError("this form came from another site; nothing was done")


def check_texts(request: Request) -> None:
    """Raise NotFoundError if the address holds what no text of ours can hold."""
    texts = [*request.path_params.values(), *request.query_params.values()]
    if any(
        "\0" in text or any("\ud800" <= c <= "\udfff" for c in text)
        for text in texts
        if isinstance(text, str)
    ):
        raise NotFoundError("there is no such page; go back or use the menu")


async def read_form(request: Request) -> Values:
    """Return the fields of a URL-encoded form; InvalidInputError if it cannot be read."""
    body = await request.body()
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict"
        )
    except ValueError:
        raise InvalidInputError("the form cannot be read; reload the page and send it again") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise InvalidInputError("a text may not hold the character NUL", field=name.replace("\0", ""))
        form.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return form
