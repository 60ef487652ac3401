"""Makes docs/reference/cli.md from the tree of client commands, and docs/reference/api.md from the OpenAPI document."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.cli import errors
from penstock.cli.main import whole_tree

OPENAPI = Path(__file__).parents[1] / "docs" / "reference" / "openapi.json"

# Options that nearly every command has; said once at the top of the page.
_COMMON = frozenset({"--output", "--utc", "--context", "--help"})
_CLI_HEAD = """\
# The command line

`penstock` speaks HTTP to a factory, with an API key of a context (`penstock context list`) or of the environment
([which variables](../guides/operate.md#environment-variables)). `penstock up`, `serve`, `agent join`, `agent run`, `gateway` and
`twin` run here rather than ask a factory: [their options](processes.md).

Every command below also takes `--output table|json|yaml`, `--utc`, `--context NAME` and `--help`. JSON and YAML are the answer of the API
as it is. Answers go to standard output, progress and hints to standard error.

| exit code | meaning |
|---|---|
| 0 | done |
| {usage} | the command or an option is wrong; nothing was asked of the factory |
| {refused} | the factory answered and said no; the sentence ends with its [code](errors.md) |
| {unreachable} | nothing answered at the address |
"""
_API_HEAD = """\
# The API

Every operation of the control plane, from [openapi.json](openapi.json), which a running factory serves at `/v1/openapi.json`.

- **Who calls**: `Authorization: Bearer psk_...`, a key of `penstock key create` or of a log-in. What it may do is the smaller of its scopes and its owner's roles.
- **Lists** are pages: `limit` up to 1,000, `after` with the `next` of the page before.
- **Refusals** are `{"error": {"code", "message", "field", "data", "request_id"}}`; [errors](errors.md) has the codes. What is absent and what is another tenant's is the same 404.
- **Repeating an order** with the same `Idempotency-Key` gives the same service.
- **Money** is in micro-euro, tokens and time are counted, instants are ISO 8601 in UTC. Unknown fields are refused.
- `GET /v1/events/watch` goes on for ever, as server-sent events.

The token gateway has an API of its own, OpenAI's: [gateway](gateway.md).
"""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _commands(child, f"{path} {name}".strip())
    else:
        yield path, command


def _parameters(command: Any) -> Iterator[str]:
    for parameter in command.params:
        names = [*parameter.opts, *parameter.secondary_opts]
        if _COMMON & set(names):
            continue
        if parameter.param_type_name == "argument":
            shown = f"`{(parameter.name or '').replace('_', '-').upper()}`" + (
                "" if parameter.required else " (optional)"
            )
        else:
            shown = ", ".join(f"`{name}`" for name in names) + (", required" if parameter.required else "")
        yield f"| {shown} | {_cell(getattr(parameter, 'help', None) or '')} |"


def cli_page(made: str) -> str:
    """Return docs/reference/cli.md; ``made`` is the line that says where it comes from."""
    codes = {"usage": errors.USAGE, "refused": errors.REFUSED, "unreachable": errors.UNREACHABLE}
    lines = [made, _CLI_HEAD.format(**codes)]
    group = ""
    for path, command in _commands(whole_tree(), ""):
        name = path.split()[0]
        if name != group:
            group = name
            lines.append(f"## {group}\n")
        if path != group:
            lines.append(f"### {path}\n")
        lines += [*_command(command), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _command(command: Any) -> Iterator[str]:
    yield _cell(command.help or "")
    rows = list(_parameters(command))
    if rows:
        yield from ("", "| argument or option | meaning |", "|---|---|", *rows)
    examples = [line.strip() for line in (command.epilog or "").splitlines()]
    examples = [line for line in examples if line.startswith("penstock ")]
    if examples:
        yield from ("", "```sh", *examples, "```")


def api_page(made: str) -> str:
    """Return docs/reference/api.md, from the committed OpenAPI document, which a habit test of its own keeps true."""
    document: dict[str, Any] = json.loads(OPENAPI.read_text("utf-8"))
    by_tag: dict[str, list[str]] = {}
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            about = _cell((operation.get("description") or "").partition("\n\n")[0])
            by_tag.setdefault(tag, []).append(f"| `{method.upper()} {path}` | {about} |")
    lines = [made, _API_HEAD]
    for tag, rows in sorted(by_tag.items()):
        lines += [f"## {tag}\n", "| operation | what it does |", "|---|---|", *rows, ""]
    return "\n".join(lines).rstrip("\n") + "\n"
