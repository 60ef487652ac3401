"""`penstock identity`: which accounts at OpenID providers open a user's account."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import Session, Yes, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("ISSUER", "issuer"),
    Column("SUBJECT", "subject"),
    Column("MANAGED", "managed", Kind.FLAG),
    Column("LAST USED", "used_at", Kind.TIME),
)


@command(app, "list", examples=["penstock identity list ada@acme.example"])
def list_(
    session: Session,
    user: Annotated[str | None, typer.Argument(help="E-mail address or id; your own if left out.")] = None,
) -> None:
    """List what opens a user's account beside a password. Link one on the console's page Account."""
    own = user is None
    user_id = (
        session.client.get("/v1/whoami")["principal"]["id"] if own else session.find("users", user or "")
    )
    session.show_list(f"/v1/users/{user_id}/identities", COLUMNS)


@command(app, "remove", examples=["penstock identity remove idn_... --yes"])
def remove(
    session: Session,
    identity: Annotated[str, typer.Argument(help="Its id.")],
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Take an identity away; it does not open the account any more."""
    session.confirm(f"Take identity {identity} away?", yes=yes)
    session.client.delete(f"/v1/identities/{identity}")
    session.say("it does not open the account any more")
