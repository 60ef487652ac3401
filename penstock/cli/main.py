"""The tree of commands. One module per noun; each has an ``app`` (a group) or a ``register`` (single commands)."""

from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from penstock import __version__

# Command group, module, one line of help. A group's module is imported when one of its commands is used, and
# what is slow (HTTP, tables) inside the functions, so that `penstock --help` and completion answer at once.
_ALSO = {"kb": "knowledge-base"}  # what groups are called, too
GROUPS: tuple[tuple[str, str, str], ...] = (
    ("service", "service", "Services: order, list, show, release."),
    ("reservation", "reservation", "Reservations: book devices for a time to come, list, show, cancel."),
    ("offer", "offer", "Offers: what may be ordered, with form and price."),
    ("price-book", "price_book", "Prices: versions of all of them."),
    ("invoice", "invoice", "Invoices: what a tenant owes for a month."),
    ("report", "report", "Reports: what capacity is worth, what the ledger says."),
    ("tenant", "tenant", "Tenants: who the factory serves."),
    ("project", "project", "Projects of a tenant: what services and budgets belong to."),
    ("user", "user", "People and their passwords."),
    ("second-factor", "totp", "Authenticators: set yours up, take one away."),
    ("identity", "identity", "Accounts at OpenID providers that open a user's account."),
    ("service-account", "service_account", "Accounts for programs."),
    ("role-binding", "role_binding", "Who may do what, where."),
    ("key", "api_key", "API keys: make, list, revoke."),
    ("quota", "quota", "Limits of tenants and projects, and what is used of them."),
    ("rate-limit", "rate_limit", "Limits of token traffic: tenants, projects, keys, endpoints."),
    ("policy", "policy", "Policies: who is served first, who gives way on reclaim."),
    ("event", "event", "What happened; follow it live."),
    ("audit", "audit", "Who changed what, when, from where."),
    ("site", "site", "Sites, racks and power feeds."),
    ("power", "power", "Power: what is held where, budgets, nodes that sleep."),
    ("node", "node", "Nodes: list, show, cordon, retire; rehearse failures of simulated ones."),
    (
        "maintenance",
        "maintenance",
        "Maintenance: take nodes out of work for an interval; see first what moves.",
    ),
    ("device", "device", "Accelerators, their classes, and the capacity they add up to."),
    ("model", "model", "Models that LLM services can serve."),
    ("secret", "secret", "Secrets of a project: keys of other people's servers."),
    ("batch", "batch", "Batches: many requests in one file, answered when there is room, for less."),
    ("knowledge-base", "knowledge_base", "Knowledge bases: make, search, ask, delete with proof; also `kb`."),
    ("document", "document", "Documents of knowledge bases: add, list, index again, delete with proof."),
    ("weights", "weights", "Copies of models' weights on nodes: list, prune."),
    ("vm", "vm", "Machines: launch, list, power, snapshots, console, terminate."),
    ("volume", "volume", "Disks with a life of their own: attach, grow, snapshot, put back."),
    ("image", "image", "Images that machines begin with."),
    ("ssh-key", "ssh_key", "Public SSH keys by name."),
    ("network", "network", "Networks of a project: make, list, show, delete."),
    ("subnet", "subnet", "Subnets of a network: prefix, DHCP options, ACL."),
    ("port", "port", "Ports: where guests are plugged into a network."),
    ("security-group", "security_group", "Security groups: who may reach whom."),
    ("address-pool", "address_pool", "Outside addresses that tenants take from."),
    (
        "floating-address",
        "floating_address",
        "Outside addresses that lead to ports; the way out of networks.",
    ),
    ("dns-record", "dns_record", "Names of a network's private zone."),
    ("public-record", "public_record", "Names that the factory answers for to the world."),
    ("network-route", "network_route", "Prefixes that are reached through a guest."),
    ("certificate", "certificate", "Certificates: issued and rotated, or uploaded; the project's authority."),
    (
        "network-peering",
        "network_peering",
        "Networks whose guests reach each other: request, accept, refuse, delete.",
    ),
    ("load-balancer", "load_balancer", "Load balancers: listeners, members, their health."),
    ("flow", "flow", "What hosts tell of packets: accepted and dropped, by which rule."),
    ("fabric", "fabric_partition", "The fabric: where nodes are in it, and partitions of it."),
    ("network-host", "network_host", "Nodes that carry networks."),
    ("agent", "agent", "Remote agents: invite, list, revoke; `agent join` makes this machine one."),
    ("context", "contexts", "Which factory the commands talk to."),
)
SINGLES: tuple[str, ...] = ("login", "whoami", "explain", "usage")


class Groups(TyperGroup):
    """The commands of `penstock`; a group is a name and a line of help until it is used."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, _, line in GROUPS:
            self.commands.setdefault(name, TyperGroup(name=name, help=line, rich_markup_mode=None))
        self._loaded: set[str] = set()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that ``args`` begin with, loaded."""
        if args:
            args = [_ALSO.get(args[0], args[0]), *args[1:]]
            self.load(args[0])
        return super().resolve_command(ctx, args)

    def load(self, name: str) -> None:
        """Import the module of a group; nothing for other names."""
        module = next((module for group, module, _ in GROUPS if group == name), None)
        if module is not None and name not in self._loaded:
            parent = typer.Typer(rich_markup_mode=None)
            parent.add_typer(
                import_module(f"penstock.cli.{module}").app, name=name, help=self.commands[name].help
            )
            parent.callback()(_nothing)
            self.add_command(cast("TyperGroup", get_command(parent)).commands[name])
            self._loaded.add(name)


def _nothing() -> None:
    """Make a lone group stay a group."""


app = typer.Typer(
    cls=Groups,
    name="penstock",
    help="Use and operate an AI factory.\n\nStart one with `penstock up`, then `penstock login`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
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


for _module in SINGLES:
    import_module(f"penstock.cli.{_module}").register(app)


def whole_tree() -> Groups:
    """Return all commands, loaded; for the reference pages and the tests."""
    tree = cast("Groups", get_command(app))
    for name, _, _ in GROUPS:
        tree.load(name)
    return tree
