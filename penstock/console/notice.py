"""A sentence that the next page says once: what was just done. Kept in a cookie, because pages keep no state."""

import base64
import binascii

from starlette.requests import Request
from starlette.responses import Response

from penstock.console.secure import BASE

COOKIE = "penstock_notice"
SECONDS = 60
CHARACTERS_MAX = 500


def leave_notice(response: Response, sentence: str | None) -> None:
    """Let the next page say ``sentence``; None: nothing more."""
    if sentence is None:
        response.delete_cookie(COOKIE, path=BASE, httponly=True, samesite="lax")
        return
    value = base64.urlsafe_b64encode(sentence[:CHARACTERS_MAX].encode()).decode()
    response.set_cookie(COOKIE, value, max_age=SECONDS, path=BASE, httponly=True, samesite="lax")


def take_notice(request: Request) -> str | None:
    """Return the sentence that the page before left, None without one."""
    value = request.cookies.get(COOKIE)
    if not value:
        return None
    try:
        return base64.urlsafe_b64decode(value).decode()[:CHARACTERS_MAX] or None
    except (binascii.Error, ValueError):
        return None  # somebody else's cookie: nothing to say
