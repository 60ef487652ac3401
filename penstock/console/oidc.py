"""Signing in through an OpenID provider: the way there, and back. The password's way is in ``session.py``.

The way there starts with a link where nobody is signed in, and with a form of the session where somebody is. The
note of what was begun is in a cookie that only the way back gets to see.
"""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.actions import identity as identity_actions
from penstock.actions import sign_in
from penstock.actions.context import Context
from penstock.actions.session import Origin
from penstock.actions.sign_in import Aim, Return
from penstock.base import limits
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.console.edge import Visit, check_texts, post, refusal, visit_of
from penstock.console.notice import leave_notice
from penstock.console.paths import next_page
from penstock.console.secure import BASE, SESSION_COOKIE, secured, set_cookie

NOTE_COOKIE = "penstock_sign_in"
NOTE_CHARACTERS_MAX = 4_000
CODE_CHARACTERS_MAX = 2_000


async def _leave(request: Request) -> Response:
    return await run_in_threadpool(_begin, request)


def _begin(request: Request) -> Response:
    """Send somebody who is not signed in to the provider."""
    context: Context = request.app.state.control_plane.context
    wanted = next_page(request.query_params.get("next", "/"))[: limits.TEXT_CHARACTERS_MAX]
    try:
        check_texts(request)
        address, note = sign_in.begin(context, request.path_params["provider"], Aim.LOG_IN, wanted, None)
    except PenstockError as error:
        return refusal(request, error, None)
    return _with_note(request, secured(RedirectResponse(address, status_code=303)), note)


def _with_note(request: Request, response: Response, note: str) -> Response:
    set_cookie(request, response, NOTE_COOKIE, note, int(limits.SIGN_IN_LIFE.total_seconds()))
    return response


def link(visit: Visit) -> Response:
    """Leave for the provider to link an identity to one's own account."""
    return _depart(visit, Aim.LINK, "/account")


def prove(visit: Visit) -> Response:
    """Leave for the provider to show that it is oneself."""
    return _depart(visit, Aim.PROVE, next_page(visit.field("next", "/")))


def _depart(visit: Visit, aim: Aim, wanted: str) -> Response:
    """Return a page that leads on to the provider: a form may not lead to another site by itself (form-action)."""
    address, note = sign_in.begin(visit.context, visit.path("provider"), aim, wanted, visit.actor)
    title = identity_actions.provider_named(visit.context, visit.path("provider")).settings.title
    return _with_note(visit.request, visit.page("depart.html", address=address, title=title), note)


async def _come_back(request: Request) -> Response:
    return await run_in_threadpool(_finish, request)


def _finish(request: Request) -> Response:
    """Take what the provider sent back; what refuses it is a page with its sentence."""
    context: Context = request.app.state.control_plane.context
    try:
        visit = visit_of(request, {})
    except UnauthenticatedError:
        visit = None
    try:
        check_texts(request)
        asked = request.query_params
        back = Return(
            asked.get("state", "")[:200],
            asked["code"][:CODE_CHARACTERS_MAX] if "code" in asked else None,
            asked.get("error", "")[:200],
            asked.get("iss"),
        )
        origin = Origin(
            request.client.host if request.client else "unknown",
            request.headers.get("user-agent", ""),
            request.scope.get("penstock_request_id", ""),
        )
        sealed = request.cookies.get(NOTE_COOKIE, "")[:NOTE_CHARACTERS_MAX]
        note = sign_in.redeem(context, origin, request.path_params["provider"], sealed, back)
        response = _act(request, context, origin, note, visit)
    except PenstockError as error:
        response = refusal(request, error, visit)
    response.delete_cookie(NOTE_COOKIE, path=BASE)
    return response


def _act(
    request: Request, context: Context, origin: Origin, note: sign_in.Note, visit: Visit | None
) -> Response:
    response = secured(RedirectResponse(f"{BASE}{next_page(note.wanted)}", status_code=303))
    if note.aim is Aim.LOG_IN:
        _, text = sign_in.log_in(context, origin, note)
        set_cookie(request, response, SESSION_COOKIE, text, int(limits.SESSION_LIFE.total_seconds()))
        return response
    if visit is None:
        raise UnauthenticatedError("your session ended meanwhile; log in and begin again")
    if note.aim is Aim.LINK:
        sign_in.link(context, visit.actor, note)
        leave_notice(response, f"{note.provider.settings.title} opens your account from now on.")
    else:
        sign_in.prove(context, visit.actor, note)
    return response


def unlink(visit: Visit) -> Response:
    """Take one of one's own identities away."""
    identity_actions.remove(visit.context, visit.actor, visit.path("identity_id"))
    return visit.go("/account", "It does not open your account any more.")


routes = [
    Route("/oidc/{provider}", _leave, methods=["GET"]),
    Route("/oidc/{provider}/callback", _come_back, methods=["GET"]),
    post("/oidc/{provider}/link", link, proof_at="/account"),
    post("/oidc/{provider}/prove", prove),
    post("/account/identities/{identity_id}/remove", unlink, proof_at="/account"),
]
