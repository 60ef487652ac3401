"""`penstock second-factor`: one's own authenticator; administrators take away that of somebody locked out."""

import io
from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import Session, Yes, command

app = typer.Typer(no_args_is_help=True)
User = Annotated[str | None, typer.Argument(help="E-mail address or id; your own if left out.")]
COLUMNS = (
    Column("Active", "active", Kind.FLAG),
    Column("Since", "since", Kind.TIME),
    Column("Recovery codes left", "recovery_codes_left"),
)


def _path(session: Session, user: str | None) -> str:
    own = user is None
    user_id = (
        session.client.get("/v1/whoami")["principal"]["id"] if own else session.find("users", user or "")
    )
    return f"/v1/users/{user_id}/second-factor"


@command(app, "show", examples=["penstock second-factor show"])
def show(session: Session, user: User = None) -> None:
    """Say whether a log-in asks for a code."""
    session.show(session.client.get(_path(session, user)), COLUMNS)


@command(app, "set-up", examples=["penstock login ada@example.org", "penstock second-factor set-up"])
def set_up(session: Session) -> None:
    """Set up your authenticator: scan or type the secret, give the code that it shows. Log in first."""
    path = _path(session, None)
    made = session.client.post(path)
    session.say(_picture(made["address"]))
    session.say(f"secret: {made['secret']}")
    code = typer.prompt("Code that your authenticator shows", err=True)
    codes = session.client.post(f"{path}/confirm", {"code": str(code).strip()})["recovery_codes"]
    session.say("the second factor is on. Keep these codes for a lost device; each works once:")
    session.show_items([{"code": one} for one in codes], (Column("RECOVERY CODE", "code"),))


@command(
    app,
    "remove",
    examples=["penstock second-factor remove", "penstock second-factor remove ada@acme.example --yes"],
)
def remove(session: Session, user: User = None, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Take a second factor away: the password alone opens the account then."""
    path = _path(session, user)
    session.confirm(f"Let the password alone open {'your account' if user is None else repr(user)}?", yes=yes)
    session.client.delete(path)
    session.say("the second factor is off")


def _picture(address: str) -> str:
    """Return a QR code as text."""
    import segno  # noqa: PLC0415 - used by this command alone

    drawing = io.StringIO()
    segno.make(address, micro=False).terminal(out=drawing, border=2, compact=True)
    return drawing.getvalue()
