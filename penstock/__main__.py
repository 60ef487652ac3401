"""The `penstock` command: ``up``, ``serve``, ``agent``, ``gateway`` and ``twin`` run here; the rest are client commands."""

import sys
from importlib import import_module

# Each part is imported only when it is asked for, so that `penstock --help` is quick.
_PARTS = {
    "up": "penstock.up.command",
    "serve": "penstock.up.serve",
    "agent": "penstock.agent.main",
    "gateway": "penstock.gateway.main",
    "twin": "penstock.twin.command",
}


def _part(arguments: list[str]) -> str | None:
    """Return the module that runs ``arguments``, or None for a client command.

    ``agent`` and ``gateway`` are also nouns of the client: only ``agent join``, ``agent run``, ``agent clear-host`` and
    ``gateway --...`` run a part of the factory.
    """
    if not arguments:
        return None
    first, second = arguments[0], arguments[1] if len(arguments) > 1 else ""
    if first == "agent" and second not in ("join", "run", "clear-host"):
        return None
    if first == "gateway" and not second.startswith("-"):
        return None
    return _PARTS.get(first)


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    arguments = sys.argv[1:]
    part = _part(arguments)
    if part is not None:
        return int(import_module(part).run(arguments[1:]))
    import_module("penstock.cli.main").app()
    return 0


if __name__ == "__main__":
    sys.exit(main())
