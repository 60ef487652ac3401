"""Headers and cookies of the console: what a browser may load, send and keep."""

from starlette.requests import Request
from starlette.responses import Response

BASE = "/console"
SESSION_COOKIE = "penstock_session"
THEME_COOKIE = "penstock_theme"
THEMES = ("auto", "light", "dark")

# Everything from this origin, nothing inline, nothing evaluated, framed by nobody.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def secured(response: Response) -> Response:
    """Add the headers that every answer of the console has."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["X-Frame-Options"] = "DENY"
    return response


def theme_of(request: Request) -> str:
    """Return the look that this browser chose."""
    chosen = request.cookies.get(THEME_COOKIE, "auto")
    return chosen if chosen in THEMES else "auto"


def set_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    """Set a cookie of the console that scripts cannot read; it travels by TLS alone where the console does."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=BASE,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
