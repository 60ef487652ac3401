"""Writes what the documents say about the code, from the code: errors, states, commands, operations, and figures.

``python -m tools.reference`` writes the pages; a habit test compares them with what is committed.
"""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import penstock
from penstock.base.errors import error_classes
from tools.driver_pages import drivers_page
from tools.interface_pages import api_page, cli_page
from tools.process_pages import processes_page

ROOT = Path(__file__).parents[1]
_MADE = "<!-- Made by `make reference` from the code; edit the code instead. -->\n"
FIGURES_BEGIN = "<!-- figures: made by `make reference` from bench/figures.json -->"
FIGURES_END = "<!-- end of figures -->"


def modules() -> Iterator[ModuleType]:
    """Import every module of the package, so that every error class and every enumeration is known."""
    for found in pkgutil.walk_packages(penstock.__path__, "penstock."):
        # Migrations run inside Alembic and refuse to be imported outside it; __main__ starts the program.
        if "migrations" not in found.name and not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def tables_of_sentences() -> dict[str, tuple[type[StrEnum], Mapping[StrEnum, str]]]:
    """Return every ``*_SENTENCES`` table by its full name, with the enumeration it explains."""
    found: dict[str, tuple[type[StrEnum], Mapping[StrEnum, str]]] = {}
    for module in modules():
        for name, table in vars(module).items():
            if not name.endswith("_SENTENCES") or not isinstance(table, dict) or not table:
                continue
            kind = type(next(iter(table)))
            if kind.__module__ == module.__name__:  # an imported table belongs to where it was written
                found[f"{module.__name__}.{name}"] = (kind, table)
    return found


def errors_page() -> str:
    """Return docs/reference/errors.md."""
    list(modules())  # an error class exists once its module is imported
    lines = [
        _MADE,
        "# Error codes\n",
        "Every answer that is no success carries a `code` from this table. Codes are stable and never reused; the",
        "sentence that comes with one says what to do and may change.\n",
        "| code | HTTP status | meaning |",
        "|---|---|---|",
    ]
    for code, error in sorted(error_classes().items()):
        meaning = " ".join((inspect.getdoc(error) or "").partition("\n\n")[0].split())
        lines.append(f"| `{code}` | {error.status} | {meaning} |")
    return "\n".join(lines) + "\n"


def _diagram(transitions: Any) -> list[str]:
    """Return a Mermaid state diagram of a set of pairs."""
    arrows = sorted(f"    {source.value} --> {target.value}" for source, target in transitions)
    return ["```mermaid", "stateDiagram-v2", *arrows, "```", ""]


def states_page() -> str:
    """Return docs/reference/states.md."""
    lines = [
        _MADE,
        "# States and reasons\n",
        "Each value an object can have, with the sentence a person is shown.\n",
    ]
    for name, (kind, table) in sorted(tables_of_sentences().items()):
        module = importlib.import_module(kind.__module__)
        noun = kind.__module__.removeprefix("penstock.").replace(".", " / ")
        lines += [f"## {noun}: {kind.__name__}\n", f"{inspect.getdoc(kind)} (`{name}`)\n"]
        if name.endswith(".STATE_SENTENCES"):
            lines += _diagram(vars(module)["TRANSITIONS"])
        lines += ["| value | sentence |", "|---|---|"]
        lines += [f"| `{value.value}` | {table[value] or '-'} |" for value in kind]
        lines.append("")
    return "\n".join(lines)


def figures_table(document: Mapping[str, Any]) -> str:
    """Return the README's table of figures as Markdown."""
    of = document["machine"]
    commits = sorted(set(document["commits"].values()))
    lines = [
        f"Measured on {of['cpu']}, {of['cores']} cores, Python {of['python']}, at {', '.join(commits)}.\n",
        "| figure | here | must | aim | verdict | peer |",
        "|---|---|---|---|---|---|",
    ]
    for figure in document["figures"]:
        cells = ("value", "must", "aim", "verdict", "peer")
        shown = ("" if figure.get(cell) is None else str(figure[cell]) for cell in cells)
        lines.append(f"| {figure['label']} | {' | '.join(shown)} |")
    return "\n".join(lines)


def readme(current: str, figures: Mapping[str, Any] | None) -> str:
    """Return the README with its block of figures made anew; no figures saved yet gives an empty block."""
    before, begin, rest = current.partition(FIGURES_BEGIN)
    _, end, after = rest.partition(FIGURES_END)
    if not begin or not end:
        raise ValueError(f"the README needs the lines {FIGURES_BEGIN!r} and {FIGURES_END!r}")
    block = f"\n{figures_table(figures)}\n" if figures else "\n"
    return f"{before}{begin}{block}{end}{after}"


def pages() -> dict[str, str]:
    """Return the text of every made page by its path in the repository."""
    saved = ROOT / "bench" / "figures.json"
    figures = json.loads(saved.read_text()) if saved.exists() else None
    return {
        "docs/reference/errors.md": errors_page(),
        "docs/reference/states.md": states_page(),
        "docs/reference/cli.md": cli_page(_MADE),
        "docs/reference/api.md": api_page(_MADE),
        "docs/reference/processes.md": processes_page(_MADE),
        "docs/reference/drivers.md": drivers_page(_MADE),
        "README.md": readme((ROOT / "README.md").read_text(), figures),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).write_text(text)
        print(f"wrote {path}")
