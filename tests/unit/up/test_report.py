"""What `penstock up` prints: plain lines in a pipe, one moving line on a terminal, every fact it was given."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from penstock.up.demo import FirstToken
from penstock.up.report import StatusLine, print_banner, print_first_token


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, legacy_windows=False)


def printed(one: Console) -> str:
    assert isinstance(one.file, io.StringIO)
    return one.file.getvalue()


def factory() -> Any:
    return SimpleNamespace(
        facts=lambda: [("API", "http://127.0.0.1:7070"), ("data", "/srv/penstock")],
        next_steps=lambda: ["penstock service list"],
    )


def first_token(*, is_new: bool = True) -> FirstToken:
    return FirstToken(
        service={"name": "hello", "phases": [{"phase": "running", "seconds_since_order": 1.5}]},
        text="hi",
        usage={"prompt_tokens": 5, "completion_tokens": 7},
        cost={"items": [{"amount_microeur": 3, "price_book_version": 4}, {"amount_microeur": 2}]},
        to_first_token_seconds=2.0,
        is_new=is_new,
    )


def test_in_a_pipe_each_change_is_one_plain_line_and_a_repetition_none() -> None:
    out = console(terminal=False)
    with StatusLine(out) as line:
        for sentence in ("starting", "starting", "migrating", "starting"):
            line.say(sentence)
    assert printed(out) == "starting\nmigrating\nstarting\n"


def test_a_streamed_answer_is_one_line_of_its_own_and_no_markup() -> None:
    out = console(terminal=False)
    with StatusLine(out) as line:
        line.say("asking")
        for piece in ("Pen", "[bold]stock", " 42"):
            line.text(piece)
        line.say("metering")
    assert printed(out) == "asking\nanswer: Pen[bold]stock 42\nmetering\n"


def test_an_answer_that_is_cut_off_still_ends_its_line() -> None:
    out = console(terminal=False)
    line = StatusLine(out)

    def be_cut_off() -> None:
        with line:
            line.text("half")
            raise KeyError

    with pytest.raises(KeyError):
        be_cut_off()
    assert printed(out) == "answer: half\n"


def test_on_a_terminal_the_line_moves() -> None:
    out = console(terminal=True)
    with StatusLine(out) as line:
        line.say("migrating")
    assert "\x1b[" in printed(out)
    assert out._live_stack == []  # nothing goes on drawing


def test_the_banner_says_where_everything_is_without_markup_in_a_pipe() -> None:
    out = console(terminal=False)
    print_banner(out, factory(), 3.0)
    for text in ("Penstock is up", "API", "http://127.0.0.1:7070", "/srv/penstock"):
        assert text in printed(out)
    assert "\x1b" not in printed(out)
    assert "[bold]" not in printed(out)


def test_an_address_in_the_banner_stays_in_one_piece() -> None:
    out = Console(file=io.StringIO(), width=20)
    print_banner(out, factory(), 3.0)
    assert "http://127.0.0.1:7070" in printed(out)


@pytest.mark.parametrize(("is_new", "asked"), [(True, "after the order"), (False, "was ordered before")])
def test_the_first_token_comes_with_phases_tokens_and_a_price(is_new: bool, asked: str) -> None:  # noqa: FBT001 - a parameter of the test
    out = console(terminal=False)
    print_first_token(out, first_token(is_new=is_new), factory(), 9.0)
    for text in (
        "running",
        "5 in, 7 out",
        "0.000005",
        "price book version 4",
        "penstock service list",
        asked,
    ):
        assert text in printed(out)
    assert "\x1b" not in printed(out)
