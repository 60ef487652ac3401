"""A real browser at a real factory: Debian's Chromium through Playwright, watched for errors and for strangers."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.factory_process import FactoryProcess

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1360, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1360, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 380, "height": 800}, "color_scheme": "light"},
}
TIMEOUT_MS = 30_000
expect.set_options(timeout=TIMEOUT_MS)


def chromium() -> str | None:
    """Return the path of the browser, None where there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Window:
    """One page of one person, with everything that went wrong in it."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list[str])
    strangers: list[str] = field(default_factory=list[str])
    bytes_by_page: dict[str, int] = field(default_factory=dict[str, int])

    def open(self, path: str) -> None:
        """Open a page of the console and wait until its scripts have run."""
        self.page.goto(f"{self.url}/console{path}", wait_until="load")

    def log_in(self, name: str, password: str) -> None:
        """Log in through the form."""
        self.open("/login")
        self.page.get_by_label("E-mail").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(re.compile(r"/console/(?!login)"))

    def violations(self, *rules: str) -> list[str]:
        """Return what axe-core finds serious or critical on the page as it is now, by all rules or by ``rules``."""
        self.page.evaluate(axe_source())
        found = self.page.evaluate(
            "async (rules) => (await axe.run(document, {resultTypes: ['violations'], preload: false, iframes: false, "
            "...(rules.length ? {runOnly: rules} : {})})).violations"
            ".map(v => ({id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map(n => n.html)}))",
            list(rules),
        )
        return [
            f"{one['id']} ({one['impact']}): {'; '.join(one['nodes'])[:400]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    def overflow_pixels(self) -> int:
        """Return how much wider the page is than the window."""
        return int(
            self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        )


def axe_source() -> str:
    """Return axe-core, as the development dependency brings it."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text()


@contextmanager
def window(browser: Browser, url: str, look: str = "light", **more: Any) -> Iterator[Window]:
    """Open a fresh browser profile."""
    context = browser.new_context(**{**LOOKS[look], "reduced_motion": "reduce", **more})
    context.set_default_timeout(TIMEOUT_MS)
    made = Window(context.new_page(), url)
    host = urlsplit(url).netloc

    def heard(message: Any) -> None:
        # A page that is refused on purpose says so in the console, and htmx says which requests a page that is left gives up;
        # everything else is a defect. A request that fails otherwise is told as responseError or sendError beside these.
        left = message.text.startswith(("htmx:sendAbort", "htmx:afterRequest"))
        if (
            message.type in ("error", "warning")
            and "Failed to load resource" not in message.text
            and not left
        ):
            made.errors.append(f"{made.page.url}: {message.text}")

    made.page.on("console", heard)
    made.page.on("pageerror", lambda error: made.errors.append(f"{made.page.url}: {error}"))

    def asked(request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != host:
            made.strangers.append(request.url)

    made.page.on("request", asked)
    try:
        yield made
    finally:
        context.close()


@contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Site:
    """A running factory with its console, a browser, and the first passwords."""

    factory: FactoryProcess
    browser: Browser
    sessions: dict[str, Any] = field(
        default_factory=dict[str, Any]
    )  # who logged in already, as a browser keeps it

    def password(self, who: str) -> str:
        """Return the first password of ``demo`` or ``operator``."""
        return (self.factory.data / "keys" / f"{who}.password").read_text().strip()

    @contextmanager
    def signed_in(self, who: str, look: str = "light", **more: Any) -> Iterator[Window]:
        """Open a window in which ``demo`` or ``operator`` is logged in; through the form once, then by the cookie."""
        with window(
            self.browser, self.factory.url, look, storage_state=self.sessions.get(who), **more
        ) as made:
            if who in self.sessions:
                made.open("/")
            else:
                made.log_in(f"{who}@factory.local", self.password(who))
                self.sessions[who] = made.page.context.storage_state()
            yield made

    def api(self, who: str, method: str, path: str, **more: Any) -> Any:
        """Ask the API as ``demo`` or ``operator``; fails on a refusal."""
        keys = self.factory.keys()
        with self.factory.client(keys.demo if who == "demo" else keys.operator) as client:
            answer = client.request(method, path, **more)
            assert answer.status_code < 400, answer.text
            return json.loads(answer.content) if answer.content else None

    def is_running(self, offer: str) -> bool:
        """Tell whether the demonstration tenant has a service of ``offer`` that runs."""
        return self._running(offer) is not None

    def _running(self, offer: str) -> dict[str, Any] | None:
        wanted = self.api("demo", "GET", "/v1/offers", params={"name": offer})["items"][0]["id"]
        rows = self.api("demo", "GET", "/v1/services", params={"state": "running"})["items"]
        return next((row for row in rows if row["offer_id"] == wanted), None)

    def running(self, offer: str, name: str) -> tuple[str, str]:
        """Return id and name of an endpoint of ``offer`` that runs already, else of one that is ordered as ``name``."""
        found = self._running(offer)
        return (found["id"], found["name"]) if found else (self.order(offer, name), name)

    def order(self, offer: str, name: str, **spec: Any) -> str:
        """Order as the demonstration tenant and return the service's id."""
        project = self.api("demo", "GET", "/v1/projects")["items"][0]["id"]
        body = {"offer": offer, "project": project, "name": name, "spec": spec}
        return str(self.api("demo", "POST", "/v1/services", json=body)["id"])
