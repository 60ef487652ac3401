"""People at the console: a browser without scripts, which keeps cookies, follows redirects and sends forms back."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import httpx
from fastapi.testclient import TestClient

from penstock.actions import password as passwords
from penstock.console.secure import BASE, SESSION_COOKIE
from penstock.control_plane import ControlPlane
from penstock.domain.role import Role
from penstock.store import principal as principal_store
from penstock.store.database import SYSTEM
from penstock.up.server import serve_both
from tests.support.tenancy import make_caller

PASSWORD = "correct horse battery staple"
GATEWAY = "http://127.0.0.1:9"
_HASH = passwords.hashed(PASSWORD)  # once: argon2 is slow on purpose


class _Forms(HTMLParser):
    """Collects forms with the fields that they would send."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.actions: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.actions.append(given.get("action", ""))
            self.found.append({})
        elif tag == "input" and self.found and given.get("name"):
            if given.get("type") in ("checkbox", "radio") and "checked" not in given:
                return
            self.found[-1].setdefault(given["name"], given.get("value", ""))


def forms(text: str) -> dict[str, dict[str, str]]:
    """Return the inputs of every form of a page by the form's action."""
    parser = _Forms()
    parser.feed(text)
    return dict(zip(parser.actions, parser.found, strict=True))


@dataclass
class Person:
    """Somebody at a browser."""

    browser: TestClient
    name: str = ""
    logs_in: bool = (
        False  # at first use: most tests need one or two of many people, and argon2 is slow on purpose
    )

    @property
    def client(self) -> TestClient:
        """Return the browser, logged in if this person logs in by itself."""
        if self.logs_in:
            answer = self.log_in()
            assert answer.status_code == 303, answer.text
        return self.browser

    def get(self, path: str, **more: Any) -> httpx.Response:
        """Open a page of the console; redirects are not followed."""
        return self.client.get(f"{BASE}{path}", follow_redirects=False, **more)

    def send(self, path: str, data: dict[str, Any] | None = None, *, csrf: bool = True) -> httpx.Response:
        """Send a form with this session's token."""
        body = dict(data or {})
        if csrf:
            body["csrf"] = self.csrf
        return self.client.post(f"{BASE}{path}", data=body, follow_redirects=False)

    @property
    def csrf(self) -> str:
        """Return the token of this session's forms, as a page carries it."""
        page = self.get("/account").text
        return forms(page)[f"{BASE}/logout"]["csrf"]

    def log_in(self, password: str = PASSWORD, **more: str) -> httpx.Response:
        """Fill in the log-in page."""
        self.logs_in = False
        page = self.get("/login")
        body = {**forms(page.text)[f"{BASE}/login"], "email": self.name, "password": password, **more}
        return self.client.post(f"{BASE}/login", data=body, follow_redirects=False)

    def prove(self) -> httpx.Response:
        """Give the password again."""
        return self.send("/proof", {"password": PASSWORD, "next": "/"})

    @property
    def session(self) -> str | None:
        """Return the session's cookie."""
        return self.client.cookies.get(SESSION_COOKIE)


@contextmanager
def served_console(plane: ControlPlane) -> Iterator[Any]:
    """Serve API and console in this process; yields a function that gives a fresh browser."""
    app = serve_both(plane, lambda: GATEWAY)
    with TestClient(app, raise_server_exceptions=False) as first:
        browsers = [first]

        def browser() -> TestClient:
            made = TestClient(app, raise_server_exceptions=False)
            browsers.append(made)
            return made

        yield browser
        for one in browsers[1:]:
            one.close()


def make_person(
    plane: ControlPlane,
    browser: Any,
    name: str,
    role: Role,
    *,
    tenant_id: str | None = None,
    project_id: str | None = None,
) -> Person:
    """Make a user with a role and a password, who logs in at first use."""
    caller = make_caller(plane, None, name, role, tenant_id=tenant_id, project_id=project_id, kind="user")
    with plane.db.transaction(SYSTEM) as connection:
        principal_store.set_password(
            connection, caller.principal_id, _HASH, plane.clock.now(), keep_key_id=None
        )
    return Person(browser(), name, logs_in=True)


def words(text: str) -> str:
    """Return the words of a page without its tags, on one line."""
    plain = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", plain.replace("&#39;", "'").replace("&quot;", '"').replace("&amp;", "&"))
