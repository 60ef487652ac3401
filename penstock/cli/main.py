"""The tree of commands. One module per noun; each has an ``app`` (a group) or a ``register`` (single commands)."""

from importlib import import_module
from typing import Annotated

import typer

from penstock import __version__

# Command group, module, one line of help. Modules import what is slow (HTTP, tables) inside their functions,
# so that `penstock --help` and completion answer at once.
GROUPS: tuple[tuple[str, str, str], ...] = (
    ("service", "service", "Services: order, list, show, release."),
    ("offer", "offer", "Offers: what may be ordered, with form and price."),
    ("price-book", "price_book", "Prices: versions of all of them."),
    ("invoice", "invoice", "Invoices: what a tenant owes for a month."),
    ("report", "report", "Reports: what capacity is worth, what the ledger says."),
    ("tenant", "tenant", "Tenants: who the factory serves."),
    ("project", "project", "Projects of a tenant: what services and budgets belong to."),
    ("user", "user", "People and their passwords."),
    ("service-account", "service_account", "Accounts for programs."),
    ("role-binding", "role_binding", "Who may do what, where."),
    ("key", "api_key", "API keys: make, list, revoke."),
    ("quota", "quota", "Limits of tenants and projects, and what is used of them."),
    ("event", "event", "What happened; follow it live."),
    ("audit", "audit", "Who changed what, when, from where."),
    ("site", "site", "Sites, racks and power feeds."),
    ("node", "node", "Nodes: list, show, cordon, retire; rehearse failures of simulated ones."),
    ("device", "device", "Accelerators, their classes, and the capacity they add up to."),
    ("model", "model", "Models that LLM services can serve."),
    ("agent", "agent", "Remote agents: invite, list, revoke; `agent join` makes this machine one."),
    ("context", "contexts", "Which factory the commands talk to."),
)
SINGLES: tuple[str, ...] = ("login", "whoami", "explain", "usage")

app = typer.Typer(
    name="penstock",
    help="Use and operate an AI factory.\n\nStart one with `penstock up`, then `penstock login`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the form of a Typer callback
    if wanted:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[  # noqa: FBT002 - the form of a Typer flag
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Hold the options of `penstock` itself."""


for _name, _module, _help in GROUPS:
    app.add_typer(import_module(f"penstock.cli.{_module}").app, name=_name, help=_help)
for _module in SINGLES:
    import_module(f"penstock.cli.{_module}").register(app)
