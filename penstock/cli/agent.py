"""`penstock agent token|tokens|list|show|revoke`: remote agents, as operators see them.

`penstock agent join`, `penstock agent run` and `penstock agent clear-host` are the agent itself and are not client commands.
"""

from typing import Annotated

import typer

from penstock.cli.output import Column, Format, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Agent = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("TRANSPORT", "transport"),
    Column("STATE", "state"),
    Column("NODES", "nodes", Kind.COUNT),
    Column("LAST SEEN", "last_seen_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("ENROLLED FROM", "source_address"),
    Column("SERVES AT", "serve_host"),
    Column("CERTIFICATE ENDS", "certificate_expires_at", Kind.TIME),
    Column("CERTIFICATE SHA-256", "certificate_sha256"),
    Column("JOINED", "created_at", Kind.TIME),
)
TOKENS = (
    Column("ID", "id"),
    Column("STATE", "state"),
    Column("ENDS", "expires_at", Kind.TIME),
    Column("USED", "used_at", Kind.TIME),
    Column("USED BY", "used_by_agent_id"),
)


@command(app, "token", examples=["penstock agent token > token", "penstock agent token --hours 24 -o json"])
def token(
    session: Session,
    hours: Annotated[
        float, typer.Option("--hours", min=0.01, max=168, help="How long it may be used.")
    ] = 1.0,
) -> None:
    """Make a token that lets one agent join; it is shown this once, alone on standard output."""
    made = session.client.post("/v1/join-tokens", {"life_seconds": int(hours * 3600)})
    if session.output is not Format.TABLE:
        session.show(made, TOKENS)
        return
    session.stream.write(f"{made['token']}\n")
    session.say(
        f"on the new machine: penstock agent join --url {made['url']} --token-file <file with the token>"
    )


@command(app, "tokens", examples=["penstock agent tokens"])
def tokens(session: Session, limit: ListLimit = None) -> None:
    """List join tokens; what they say is never shown again."""
    session.show_list("/v1/join-tokens", TOKENS, limit=limit)


@command(app, "revoke-token", examples=["penstock agent revoke-token jtk_01k..."])
def revoke_token(session: Session, token_id: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Let an unused join token end now."""
    session.show(session.client.post(f"/v1/join-tokens/{token_id}/revoke"), TOKENS)


@command(app, "list", examples=["penstock agent list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List agents."""
    session.show_list("/v1/agents", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock agent show far-machine"])
def show(session: Session, agent: Agent) -> None:
    """Show one agent."""
    session.show(session.client.get(f"/v1/agents/{session.find('agents', agent)}"), DETAIL)


@command(app, "revoke", examples=["penstock agent revoke far-machine --yes"])
def revoke(session: Session, agent: Agent, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Refuse an agent from now on, for good; its nodes are lost at once."""
    agent_id = session.find("agents", agent)
    session.confirm(f"Refuse the agent '{agent}' for good and lose its nodes?", yes=yes)
    session.show(session.client.post(f"/v1/agents/{agent_id}/revoke"), DETAIL)
