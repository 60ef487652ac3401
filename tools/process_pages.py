"""Makes docs/reference/processes.md: the options of every command that is no client of the API, from its parser."""

import argparse
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

PARTS = (
    "penstock.up.command",
    "penstock.up.serve",
    "penstock.agent.main",
    "penstock.gateway.main",
    "penstock.twin.place.command",
    "penstock.twin.queue.command",
    "penstock.twin.topology.command",
    "penstock.twin.steer.command",
    "penstock.twin.report.command",
)
_HEAD = """\
# Parts of a factory, and the twin

These commands run something here instead of asking a factory over HTTP; [the command line](cli.md) has the others.
[operate](../guides/operate.md) says when to use the parts, [placement](placement.md), [queueing](queueing.md) and [reports](report.md) what the studies show.
"""


def processes_page(made: str) -> str:
    """Return the page; ``made`` is the line that says where it comes from."""
    lines = [made, _HEAD]
    for name in PARTS:
        parser: argparse.ArgumentParser = import_module(name).build_parser()
        lines += _section(parser, "##")
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(parser: argparse.ArgumentParser, mark: str) -> Iterator[str]:
    yield f"{mark} {parser.prog}\n"
    if parser.description:
        yield _cell(parser.description) + "\n"
    rows = [row for action in parser._actions for row in _row(action)]  # noqa: SLF001 - argparse shows its actions nowhere else
    if rows:
        yield from ("| option | meaning |", "|---|---|", *rows, "")
    examples = [
        line[2:]
        for line in (parser.epilog or "").splitlines()
        if line.startswith("  ") and "penstock" in line
    ]
    if examples:
        yield from ("```sh", *examples, "```", "")
    for action in parser._actions:  # noqa: SLF001 - as above
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for child in action.choices.values():
                yield from _section(child, mark + "#")


def _row(action: argparse.Action) -> Iterator[str]:
    if isinstance(action, argparse._HelpAction | argparse._VersionAction | argparse._SubParsersAction):  # noqa: SLF001 - as above
        return
    named = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    told = (action.help or "").replace("%(default)s", _default(action.default)).replace("%%", "%")
    if action.choices:
        told += f" ({', '.join(map(str, action.choices))})"
    yield f"| {named}{', required' if action.required and action.option_strings else ''} | {_cell(told)} |"


def _default(value: object) -> str:
    """Return a default as the page shows it: folders of whoever made the page are not everybody's."""
    return "a folder of this user" if isinstance(value, Path) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
