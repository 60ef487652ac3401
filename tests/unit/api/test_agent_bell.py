"""The bell looks at once when something happens after a rest, and together at what happens right behind it."""

from types import SimpleNamespace
from typing import Any

import pytest

from penstock.actions import agent as agent_actions
from penstock.api.agent_bell import AgentBell
from penstock.base.errors import UnavailableError


def test_the_first_of_a_burst_is_heard_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    def wait(topic: str, seen: int, seconds: float) -> bool:
        did.append("rests")
        if did.count("rests") == 2:
            raise UnavailableError("the process is stopping")
        return bool(topic) and seen == 0 and seconds > 0

    def look(_: Any, after: int) -> tuple[int, list[str]]:
        did.append("looks")
        return after + 1, []

    wakeups = SimpleNamespace(count=lambda topic: len(topic) * 0, wait=wait)
    monkeypatch.setattr(agent_actions, "with_news", look)
    context: Any = SimpleNamespace(wakeups=wakeups)
    bell = AgentBell(context)
    monkeypatch.setattr(bell._stop, "wait", lambda seconds: did.append("gathers") or seconds < 0)
    bell._run()
    assert did == ["looks", "gathers", "rests", "looks", "gathers", "rests"]
