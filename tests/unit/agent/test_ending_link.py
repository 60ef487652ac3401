"""A refusal ends the agent; everything else is tried again."""

import threading
from collections.abc import Callable, Sequence

import pytest

from penstock.agent.ending_link import EndingLink
from penstock.agent.link import Pulled
from penstock.agent.loop import Agent
from penstock.base.clock import SystemClock
from penstock.base.errors import ConflictError, UnauthenticatedError, UnavailableError
from penstock.drivers.base import Observed


class Moody:
    """A link that fails as it is told to."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.calls = 0

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        del after, wait_seconds
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Pulled(full=True, cursor=1, items=[])

    def push(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        del observations, silent_nodes
        self.pull(0, 0.0)


PULL: Callable[[EndingLink], object] = lambda link: link.pull(0, 0.0)  # noqa: E731 - a parameter of the tests below
PUSH: Callable[[EndingLink], object] = lambda link: link.push([], [])  # noqa: E731 - a parameter of the tests below


@pytest.mark.parametrize("call", [PULL, PUSH])
def test_a_refusal_stops_and_is_kept_word_for_word(call: Callable[[EndingLink], object]) -> None:
    stop = threading.Event()
    link = EndingLink(Moody(UnauthenticatedError("this agent was revoked")), stop)
    assert link.refusal is None
    with pytest.raises(UnauthenticatedError):
        call(link)
    assert stop.is_set()
    assert link.refusal == "this agent was revoked"


@pytest.mark.parametrize("call", [PULL, PUSH])
@pytest.mark.parametrize("error", [UnavailableError("away"), OSError("no route"), ConflictError("taken")])
def test_anything_else_is_tried_again(call: Callable[[EndingLink], object], error: Exception) -> None:
    stop = threading.Event()
    link = EndingLink(Moody(error), stop)
    with pytest.raises(type(error)):
        call(link)
    assert not stop.is_set()
    assert link.refusal is None


def test_what_works_goes_through() -> None:
    moody = Moody(None)
    link = EndingLink(moody, threading.Event())
    assert link.pull(0, 0.0).cursor == 1
    link.push([], [])
    assert moody.calls == 2


def test_the_loop_of_a_refused_agent_ends_by_itself() -> None:
    stop = threading.Event()
    moody = Moody(UnauthenticatedError("revoked"))
    Agent(EndingLink(moody, stop), {}, SystemClock()).run(stop)
    assert moody.calls == 1
