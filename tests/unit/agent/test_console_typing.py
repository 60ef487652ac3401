"""Keys on their way from the control plane into a machine, between a link and a driver that the test holds."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.agent.console_report import ConsoleReport
from penstock.agent.console_typing import ConsoleTyping
from penstock.agent.link import Item
from penstock.base.errors import ConflictError, UnauthenticatedError, UnavailableError
from penstock.drivers.base import Typed
from tests.support.waiting import until

ITEM = Item("alc_1", "hv1", "libvirt", 1, "present", {})


class Held:
    """A link and a driver in one: sessions that are open, what was typed and shown."""

    def __init__(self) -> None:
        self.open: dict[str, bytes] = {}  # all that was typed, by session
        self.fails: Exception | None = None
        self.asked: list[dict[str, int]] = []
        self.typed: list[bytes] = []
        self.hung_up: list[str] = []
        self.written = b""
        self.sent = b""
        self.news = threading.Event()

    def pull_typed(self, taken: Mapping[str, int], wait_seconds: float) -> Sequence[Typed]:
        assert wait_seconds > 0
        self.asked.append(dict(taken))
        if len(self.asked) > 1:
            self.news.wait(0.05)
        if self.fails is not None:
            raise self.fails
        # Each answer begins a byte before what is known: what an agent has typed it does not type again.
        return [
            Typed(one, "alc_1", max(0, taken.get(one, 0) - 1), content[max(0, taken.get(one, 0) - 1) :])
            for one, content in self.open.items()
        ]

    def push_console(self, allocation_id: str, begin: int, content: bytes) -> int:
        assert allocation_id == "alc_1"
        self.sent = self.sent[:begin] + content
        return begin + len(content)

    def console(self, allocation_id: str, after: int, bytes_max: int) -> tuple[int, bytes]:
        assert allocation_id == "alc_1"
        return after, self.written[after : after + bytes_max]

    def type_into(self, allocation_id: str, content: bytes) -> None:
        assert allocation_id == "alc_1"
        if content == b"off":
            raise ConflictError("this machine is not on")
        self.typed.append(content)
        self.written += content.upper()

    def hang_up(self, allocation_id: str) -> None:
        self.hung_up.append(allocation_id)


def typing_of(held: Held) -> ConsoleTyping:
    link: Any = held
    drivers: Any = {"libvirt": held}
    return ConsoleTyping(link, drivers, ConsoleReport(link, drivers), {"alc_1": ITEM}.get)


def test_keys_are_typed_once_and_shown_at_once_while_a_session_is_open() -> None:
    held = Held()
    typing = typing_of(held)
    held.open["cse_1"] = b"off"
    typing.begin()
    until(lambda: {"cse_1": 3} in held.asked, "what the machine did not take is lost, not typed later")
    held.open["cse_1"] += b"ls\r"
    until(lambda: held.sent == b"LS\r", "what it wrote is sent")
    held.fails = UnavailableError("away")
    until(lambda: len(held.asked) > 4, "it is asked again")
    typing.begin()  # it works already
    held.fails = None
    held.open["cse_1"] += b"x"
    until(lambda: held.typed == [b"ls\r", b"x"], lambda: f"typed once: {held.typed}")
    assert held.hung_up == []
    held.open.clear()
    until(lambda: held.hung_up == ["alc_1"], "the console is let go")
    asked = len(held.asked)
    held.open["cse_2"] = b"y"
    until(lambda: not _works(), "its threads end")
    assert len(held.asked) == asked, "nobody is asked while nobody types"
    typing.begin()
    until(lambda: held.typed[-1] == b"y", "and it begins again")
    typing.stop()
    until(lambda: not _works(), "it stops")
    typing.begin()
    assert not _works(), "what is stopped stays so"


def test_an_agent_that_is_not_accepted_asks_no_more() -> None:
    held = Held()
    held.fails = UnauthenticatedError("revoked")
    typing_of(held).begin()
    until(lambda: held.asked != [] and not _works(), "its threads end")
    assert len(held.asked) == 1


def _works() -> bool:
    return any(thread.name in ("console-keys", "console-shown") for thread in threading.enumerate())
