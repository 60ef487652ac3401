"""One's own account: password, second factor, open sessions, and the look of the pages."""

import io
from typing import Any

import segno
from markupsafe import Markup
from starlette.responses import Response

from penstock.actions import api_key as api_key_actions
from penstock.actions import identity as identity_actions
from penstock.actions import totp as totp_actions
from penstock.actions import user as user_actions
from penstock.actions import whoami as whoami_actions
from penstock.base import limits
from penstock.base.errors import InvalidInputError, PenstockError
from penstock.console.edge import Visit, get, post
from penstock.console.paths import next_page
from penstock.console.secure import THEME_COOKIE, THEMES, set_cookie

THEME_SECONDS = 366 * 86_400


def show(visit: Visit) -> Response:
    """Show the account."""
    return _page(visit)


def _page(visit: Visit, *, error: PenstockError | None = None) -> Response:
    now = visit.context.clock.now()
    keys = api_key_actions.list_page(
        visit.context,
        visit.actor,
        tenant_id=None,
        principal_id=visit.actor.principal_id,
        sessions=True,
        after=None,
        limit=limits.PAGE_MAX,
    )
    sessions = [
        key
        for key in keys
        if key["session"]
        and key["revoked_at"] is None
        and all(key[end] is None or key[end] > now for end in ("expires_at", "idle_until"))
    ]
    return visit.page(
        "account.html",
        status=error.status if error else 200,
        who=whoami_actions.whoami(visit.context, visit.actor),
        has_code=totp_actions.is_on(visit.context, visit.actor),
        ways=_ways(visit),
        sessions=sorted(sessions, key=lambda key: key["created_at"], reverse=True),
        is_proved=visit.context.is_proved(visit.actor),
        error=error,
        characters_min=limits.PASSWORD_CHARACTERS_MIN,
        recovery_codes=limits.RECOVERY_CODES,
    )


def _ways(visit: Visit) -> list[dict[str, Any]]:
    """Return the providers of the factory, each with the identity that opens this account, if there is one."""
    linked = identity_actions.list_of(visit.context, visit.actor, visit.actor.principal_id)
    titles = {one.settings.issuer: one.settings for one in visit.context.providers.values()}
    ways: list[dict[str, Any]] = [
        {
            "name": None,
            "title": titles[row["issuer"]].title if row["issuer"] in titles else row["issuer"],
            "identity": row,
        }
        for row in linked
    ]
    taken = {row["issuer"] for row in linked}
    return ways + [
        {"name": one.name, "title": one.title, "identity": None}
        for one in sorted(titles.values(), key=lambda one: one.name)
        if one.issuer not in taken
    ]


def set_password(visit: Visit) -> Response:
    """Change one's own password; other sessions end."""
    password = (visit.form.get("password") or [""])[0]
    current = (visit.form.get("current_password") or [""])[0]
    try:
        if password != (visit.form.get("again") or [""])[0]:
            raise InvalidInputError("the two new passwords differ; type the same one twice", field="again")
        user_actions.set_password(
            visit.context,
            visit.actor,
            visit.actor.principal_id,
            password=password,
            current_password=current,
        )
    except PenstockError as error:
        return _page(visit, error=error)
    return visit.go("/account", "Your password is changed; your other sessions ended.")


def begin_code(visit: Visit) -> Response:
    """Show the secret of a new second factor, to be confirmed with a first code."""
    made = totp_actions.begin(visit.context, visit.actor)
    return _code_page(visit, made["secret"], made["address"])


def _code_page(visit: Visit, secret: str, address: str, error: PenstockError | None = None) -> Response:
    drawing = io.BytesIO()
    segno.make(address, micro=False).save(
        drawing,
        kind="svg",
        xmldecl=False,
        svgns=True,
        omitsize=True,
        border=3,
        svgclass="qr",
        lineclass="qr-dark",
    )
    picture = Markup(drawing.getvalue().decode())  # noqa: S704 - drawn by us from our own secret
    status = error.status if error else 200
    groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    return visit.page(
        "second_factor.html",
        status,
        picture=picture,
        secret=secret,
        groups=groups,
        address=address,
        error=error,
    )


def confirm_code(visit: Visit) -> Response:
    """Switch the second factor on and show the recovery codes, this once."""
    try:
        recovery = totp_actions.confirm(visit.context, visit.actor, visit.field("code"))
    except InvalidInputError as error:
        return _code_page(visit, visit.field("secret")[:64], visit.field("address")[:500], error)
    return visit.page("recovery.html", recovery=recovery)


def remove_code(visit: Visit) -> Response:
    """Switch one's own second factor off."""
    totp_actions.remove(visit.context, visit.actor, visit.actor.principal_id)
    return visit.go("/account", "The second factor is off: the password alone opens your account.")


def end_session(visit: Visit) -> Response:
    """End one of one's own sessions."""
    api_key_actions.revoke(visit.context, visit.actor, visit.path("key_id"))
    return visit.go("/account", "The session is ended.")


def set_theme(visit: Visit) -> Response:
    """Choose light, dark, or what the system has."""
    chosen = visit.field("theme")
    response = visit.go(next_page(visit.field("next", "/")))
    if chosen in THEMES:
        set_cookie(visit.request, response, THEME_COOKIE, chosen, THEME_SECONDS)
    return response


routes = [
    get("/account", show),
    post("/account/password", set_password),
    post("/account/second-factor", begin_code, proof_at="/account"),
    post("/account/second-factor/confirm", confirm_code, proof_at="/account"),
    post("/account/second-factor/remove", remove_code, proof_at="/account"),
    post("/account/sessions/{key_id}/end", end_session),
    post("/theme", set_theme),
]
