"""What a person sees while the factory starts, runs and serves its first token."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from penstock.base.units import format_duration, format_eur

if TYPE_CHECKING:
    from penstock.up.demo import FirstToken
    from penstock.up.factory import Factory


class StatusLine:
    """One live line; on a terminal it moves, in a pipe each change is a line of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._last = ""
        self._streaming = False

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status(self._last or "starting", spinner="dots")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._streaming:
            self._console.print()
            self._streaming = False

    def say(self, sentence: str) -> None:
        """Show what is going on now."""
        if sentence == self._last:
            return
        self._last = sentence
        if self._streaming:
            self._console.print()
            self._streaming = False
        if self._status is not None:
            self._status.update(sentence)
        elif not self._console.is_terminal:
            self._console.print(sentence)

    def text(self, piece: str) -> None:
        """Show a piece of a streamed answer as it comes."""
        if not self._streaming:
            if self._status is not None:
                self._status.stop()
                self._status = None
            self._console.print("[bold]answer:[/bold] ", end="")
            self._streaming = True
        self._console.out(piece, end="", highlight=False)


def print_banner(console: Console, factory: "Factory", seconds: float) -> None:
    """Say where everything is and how to talk to it."""
    facts = factory.facts()
    console.print(f"[bold]Penstock is up[/bold] after {format_duration(seconds)}")
    width = max(len(name) for name, _ in facts)
    for name, value in facts:  # lines, not a table: an address or a path must stay in one piece to be copied
        console.print(f"[bold]{escape(name):<{width}}[/bold]  {escape(value)}", soft_wrap=True)


def print_first_token(console: Console, first: "FirstToken", factory: "Factory", seconds: float) -> None:
    """Show phases, tokens and price of the first answer."""
    service = first.service
    table = Table(
        title=f"{service['name']}: order to first token", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("phase")
    table.add_column("since the order", justify="right")
    for phase in service["phases"]:
        table.add_row(phase["phase"], format_duration(phase["seconds_since_order"]))
    console.print(table)
    tokens = first.usage
    total = sum(row["amount_microeur"] for row in first.cost["items"])
    console.print(
        f"[bold]tokens[/bold]  {tokens.get('prompt_tokens', 0)} in, {tokens.get('completion_tokens', 0)} out "
        f"(model penstock-demo-5m: a demonstration model, not to be relied on)"
    )
    console.print(
        f"[bold]price[/bold]   {format_eur(total, 6)} for this endpoint so far, by {_books(first.cost)}"
    )
    asked = "the order" if first.is_new else "the question; the endpoint was ordered before"
    console.print(
        f"[bold]first token[/bold] {format_duration(first.to_first_token_seconds)} after {asked}, "
        f"{format_duration(seconds)} after `penstock up` was typed"
    )
    for line in factory.next_steps():
        console.print(line)


def _books(cost: dict[str, Any]) -> str:
    versions = sorted({row["price_book_version"] for row in cost["items"] if row.get("price_book_version")})
    return "price book version " + ", ".join(map(str, versions)) if versions else "the price book"
