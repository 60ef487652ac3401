"""The terminal on a machine's page in a real browser: keys, what the guest writes, and the end.

The machine's host is simulated: the page's web socket ends in the test. The real one is opened once, for a machine that does not run.
"""

import re
from typing import Any

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.support.browser import Site
from tests.support.furnishing import machines

pytestmark = pytest.mark.xdist_group("browser")
SOCKET = re.compile("/console/session$")


class SimulatedHost:
    """Takes what the page sends; the test writes for the guest."""

    def __init__(self) -> None:
        self.keys = b""
        self.socket: WebSocketRoute | None = None

    def answer(self, socket: WebSocketRoute) -> None:
        """Be the other end of the page's socket."""
        self.socket = socket
        socket.on_message(self.take)
        socket.send('{"notice": "attached", "sentence": "keys are typed"}')

    def take(self, message: Any) -> None:
        """Remember keys."""
        self.keys += message if isinstance(message, bytes) else message.encode()

    def write(self, *parts: bytes) -> None:
        """Write for the guest, in pieces."""
        assert self.socket is not None
        for part in parts:
            self.socket.send(part)


def test_keys_reach_a_guest_and_what_it_writes_is_shown(site: Site) -> None:
    made = machines(site, "-terminal")
    host = SimulatedHost()
    with site.signed_in("demo") as window:
        page = window.page
        path = f"/machines/{made['vm']}/console"
        window.open(path)
        page.get_by_role("button", name="Connect").click()
        status = page.locator(".terminal [role=status]")
        expect(status).to_contain_text("Not connected")
        assert not [one for one in window.errors if "Content Security Policy" in one]
        window.errors.clear()  # a refused handshake is an error of the page

        page.route_web_socket(SOCKET, host.answer)
        window.open(path)
        page.get_by_role("button", name="Connect").click()
        expect(status).to_contain_text("Connected: what you type")
        screen = page.get_by_role("log")
        expect(screen).to_be_focused()
        host.write(
            b"\x1b[2J\x1b[Hweb-1 login: ro",
            b"o\x08ot\r\n\x1b[1;32mgr\xc3",
            b"\xbc\xc3\x9f\x1b[0m dich\x1b",
            b"[Kxy\x08\x08\x1b[K",
        )
        expect(screen).to_have_text("web-1 login: root\ngrüß dich", use_inner_text=True)
        page.keyboard.type("ls -l")
        for key in ("Enter", "Control+c", "ArrowUp", "Tab", "Backspace"):
            page.keyboard.press(key)
        page.get_by_label("A line").fill("reboot")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("button", name="Ctrl+D").click()
        expect(page.get_by_label("A line")).to_have_value("")
        assert host.keys == b"ls -l\r\x03\x1b[A\t\x7freboot\r\x04"
        assert window.violations() == []
        assert window.overflow_pixels() <= 0

        assert host.socket is not None
        host.socket.send('{"notice": "idle", "sentence": "nothing was typed for 30 minutes"}')
        host.socket.close()
        expect(status).to_have_text("Not connected: nothing was typed for 30 minutes")
        expect(page.get_by_role("button", name="Connect")).to_be_focused()
        assert window.errors == []
    site.api("demo", "DELETE", f"/v1/vms/{made['vm']}")
