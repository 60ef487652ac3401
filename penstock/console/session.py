"""Logging in and out, and giving the password again before something dangerous."""

import hmac
import secrets
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.actions import identity as identity_actions
from penstock.actions import session as session_actions
from penstock.actions import totp as totp_actions
from penstock.actions.context import Context
from penstock.actions.session import Origin
from penstock.base import limits
from penstock.base.errors import (
    ForbiddenError,
    InvalidInputError,
    PenstockError,
    SecondFactorRequiredError,
    UnauthenticatedError,
)
from penstock.console.edge import (
    Values,
    Visit,
    check_origin,
    check_texts,
    get,
    post,
    read_form,
    refusal,
    visit_of,
)
from penstock.console.paths import next_page
from penstock.console.render import render
from penstock.console.secure import BASE, SESSION_COOKIE, secured, set_cookie, theme_of

BEFORE_COOKIE = (
    "penstock_before"  # stands in for a session while there is none: double submit against forged log-ins
)
BEFORE_SECONDS = 3_600


async def _log_in_page(request: Request) -> Response:
    return await run_in_threadpool(_show_log_in, request)


def _show_log_in(request: Request) -> Response:
    try:
        check_texts(request)
        visit_of(request, {})
    except UnauthenticatedError:
        return _form(request, next_page(request.query_params.get("next", "/")))
    except PenstockError as error:
        return refusal(request, error, None)
    return secured(RedirectResponse(f"{BASE}/", status_code=303))


def _form(request: Request, wanted: str, *, status: int = 200, **values: Any) -> Response:
    """Return the log-in page."""
    token = request.cookies.get(BEFORE_COOKIE) or secrets.token_urlsafe(24)
    filled = {"email": "", "asks_code": False, "error": None, **values}
    context: Context = request.app.state.control_plane.context
    tail = "" if wanted == "/" else f"?{urlencode({'next': wanted})}"
    body = render(
        "login.html",
        visit=None,
        actor=None,
        notice=None,
        theme=theme_of(request),
        wanted=wanted,
        token=token,
        providers=[
            (f"/oidc/{name}{tail}", one.settings.title) for name, one in sorted(context.providers.items())
        ],
        **filled,
    )
    response = secured(Response(body, status_code=status, media_type="text/html"))
    set_cookie(request, response, BEFORE_COOKIE, token, BEFORE_SECONDS)
    return response


async def _log_in(request: Request) -> Response:
    try:
        form = await read_form(request)
    except InvalidInputError as error:
        return refusal(request, error, None)
    return await run_in_threadpool(_try_log_in, request, form)


def _try_log_in(request: Request, form: Values) -> Response:
    def field(name: str) -> str:
        return (form.get(name) or [""])[0]

    context: Context = request.app.state.control_plane.context
    wanted, email = next_page(field("next")), field("email").strip()
    before = request.cookies.get(BEFORE_COOKIE, "")
    if not before or not hmac.compare_digest(before.encode(), field("csrf").encode()):
        return _form(
            request, wanted, status=403, email=email, error="this page was open for too long; try again"
        )
    origin = Origin(
        request.client.host if request.client else "unknown",
        request.headers.get("user-agent", ""),
        request.scope.get("penstock_request_id", ""),
    )
    try:
        check_origin(request)
        _, text = session_actions.log_in(
            context,
            origin,
            email=email[: limits.TEXT_CHARACTERS_MAX],
            password=field("password")[: limits.PASSWORD_CHARACTERS_MAX + 1],
            code=field("code").strip()[:32] or None,
            idle=limits.SESSION_IDLE,
        )
    except SecondFactorRequiredError:
        return _form(request, wanted, email=email, asks_code=True)
    except PenstockError as error:
        asks_code = error.field == "code"
        return _form(
            request, wanted, status=error.status, email=email, error=error.sentence, asks_code=asks_code
        )
    response = secured(RedirectResponse(f"{BASE}{wanted}", status_code=303))
    set_cookie(request, response, SESSION_COOKIE, text, int(limits.SESSION_LIFE.total_seconds()))
    response.delete_cookie(BEFORE_COOKIE, path=BASE)
    return response


def log_out(visit: Visit) -> Response:
    """End the session and forget it here."""
    session_actions.log_out(visit.context, visit.actor)
    response = visit.go("/login")
    response.delete_cookie(SESSION_COOKIE, path=BASE)
    return response


def show_proof(visit: Visit) -> Response:
    """Ask for the password again."""
    return _proof_page(visit, next_page(visit.query("next", "/")))


def prove(visit: Visit) -> Response:
    """Check the password and go on to where it was asked for."""
    wanted = next_page(visit.field("next"))
    password = (visit.form.get("password") or [""])[0]
    try:
        session_actions.prove(visit.context, visit.actor, password=password, code=visit.field("code") or None)
    except ForbiddenError as error:
        return _proof_page(visit, wanted, error=error.sentence, status=403)
    return visit.go(wanted)


def _proof_page(visit: Visit, wanted: str, *, error: str | None = None, status: int = 200) -> Response:
    has_code = totp_actions.is_on(visit.context, visit.actor)
    issuers = {
        row["issuer"]
        for row in identity_actions.list_of(visit.context, visit.actor, visit.actor.principal_id)
    }
    ways = [
        (name, one.settings.title)
        for name, one in sorted(visit.context.providers.items())
        if one.settings.issuer in issuers
    ]
    return visit.page("proof.html", status, wanted=wanted, error=error, asks_code=has_code, ways=ways)


routes = [
    Route("/login", _log_in_page, methods=["GET"]),
    Route("/login", _log_in, methods=["POST"]),
    post("/logout", log_out),
    get("/proof", show_proof),
    post("/proof", prove),
]
