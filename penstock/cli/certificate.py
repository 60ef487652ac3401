"""`penstock certificate`: issued by the project's own authority and rotated, or brought from elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.errors import USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, ProjectOption, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("STATE", "state"),
    Column("SOURCE", "source"),
    Column("FOR", "names", Kind.LIST),
    Column("EXPIRES", "expires_at", Kind.TIME),
    Column("ROTATED AT", "rotate_at", Kind.TIME),
)
DETAIL = (
    *COLUMNS,
    Column("DESCRIPTION", "description"),
    Column("MEANS", "state_sentence"),
    Column("ISSUER", "issuer"),
    Column("SERIAL", "serial"),
    Column("SHA-256", "fingerprint_sha256"),
    Column("KEY", "key_kind"),
    Column("VERSION", "version", Kind.COUNT),
    Column("FROM", "begins_at", Kind.TIME),
    Column("REVOKED", "revoked_at", Kind.TIME),
    Column("CREATED", "created_at", Kind.TIME),
)
FILE_BYTES_MAX = 1 << 20
Certificate = Annotated[str, typer.Argument(help="Its name or id.")]
NewName = Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")]
Chain = Annotated[
    Path, typer.Option("--chain", help="File with the certificates in PEM, the server's own first.")
]
Key = Annotated[Path, typer.Option("--key", help="File with its unencrypted private key in PEM.")]


@command(
    app,
    "issue",
    examples=[
        "penstock certificate issue www --host www.prod.internal --host 10.0.0.9",
        "penstock certificate issue api --host '*.api.prod.internal' --days 7",
    ],
)
def issue(
    session: Session,
    name: NewName,
    host: Annotated[list[str], typer.Option("--host", help="A host name or an address; may be repeated.")],
    days: Annotated[int | None, typer.Option("--days", help="How long each one holds; 30 without.")] = None,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    project: ProjectOption = None,
) -> None:
    """Issue a certificate by the project's own authority; it is rotated before it ends."""
    body = {
        "name": name,
        "project_id": session.project(project),
        "description": description,
        "names": host,
        "life_days": days,
    }
    session.show(session.client.post("/v1/certificates", body), DETAIL)


@command(app, "upload", examples=["penstock certificate upload shop --chain shop.pem --key shop.key"])
def upload(
    session: Session,
    name: NewName,
    chain: Chain,
    key: Key,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    project: ProjectOption = None,
) -> None:
    """Keep a certificate of another authority with its key, which is sealed and shown to nobody."""
    body = {"name": name, "project_id": session.project(project), "description": description}
    session.show(session.client.post("/v1/certificates", body | _content(chain, key)), DETAIL)


@command(app, "replace", examples=["penstock certificate replace shop --chain new.pem --key new.key"])
def replace(session: Session, certificate: Certificate, chain: Chain, key: Key) -> None:
    """Put another certificate in the place of one that was uploaded; what uses it has the new one within seconds."""
    certificate_id = session.find("certificates", certificate)
    body = _content(chain, key)
    session.show(session.client.put(f"/v1/certificates/{certificate_id}/content", body), DETAIL)


def _content(chain: Path, key: Path) -> dict[str, str]:
    return {"certificate_pem": _read(chain), "private_key_pem": _read(key)}


def _read(file: Path) -> str:
    try:
        with file.open("rb") as handle:
            return handle.read(FILE_BYTES_MAX).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"'{file}' cannot be read as PEM: {error}", USAGE) from error


@command(app, "list", examples=["penstock certificate list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List the certificates that you may see; never their keys."""
    session.show_list("/v1/certificates", COLUMNS, limit=limit)


@command(
    app,
    "show",
    examples=["penstock certificate show www", "penstock certificate show www --pem > www.pem"],
)
def show(
    session: Session,
    certificate: Certificate,
    *,
    pem: Annotated[bool, typer.Option("--pem", help="Only the certificates themselves.")] = False,
) -> None:
    """Show one certificate."""
    found = session.client.get(f"/v1/certificates/{session.find('certificates', certificate)}")
    if pem:
        session.stream.write(found["chain_pem"])
    else:
        session.show(found, DETAIL)


@command(
    app,
    "rotate",
    examples=["penstock certificate rotate www", "penstock certificate rotate www --revoke-old"],
)
def rotate(
    session: Session,
    certificate: Certificate,
    *,
    revoke_old: Annotated[
        bool, typer.Option("--revoke-old", help="Its key got out: revoke what it had.")
    ] = False,
) -> None:
    """Issue the next one now, with a new key; it is done by itself when two thirds of a life are over."""
    certificate_id = session.find("certificates", certificate)
    body = {"revoke_old": revoke_old}
    session.show(session.client.post(f"/v1/certificates/{certificate_id}/rotate", body), DETAIL)


@command(app, "revoke", examples=["penstock certificate revoke www --yes"])
def revoke(session: Session, certificate: Certificate, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Revoke an issued certificate for good."""
    certificate_id = session.find("certificates", certificate)
    session.confirm(f"Revoke the certificate '{certificate}' for good?", yes=yes)
    session.show(session.client.post(f"/v1/certificates/{certificate_id}/revoke"), DETAIL)


@command(app, "delete", examples=["penstock certificate delete www --yes"])
def delete(session: Session, certificate: Certificate, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Delete a certificate that nothing uses, with its key."""
    certificate_id = session.find("certificates", certificate)
    session.confirm(f"Delete the certificate '{certificate}' with its key?", yes=yes)
    session.client.delete(f"/v1/certificates/{certificate_id}")
    session.say(f"the certificate '{certificate}' is deleted")


@command(app, "authority", examples=["penstock certificate authority > project-ca.pem"])
def authority(session: Session, project: ProjectOption = None) -> None:
    """Write the certificate of the project's authority to standard output: what clients trust."""
    found = session.client.get(f"/v1/projects/{session.project(project)}/certificate-authority")
    session.stream.write(found["certificate_pem"])


@command(app, "crl", examples=["penstock certificate crl --file project.crl"])
def crl(
    session: Session,
    file: Annotated[Path, typer.Option("--file", "-f", help="Where to write it, in DER.")],
    project: ProjectOption = None,
) -> None:
    """Write the list of what the project's authority revoked; it holds for seven days."""
    content = session.client.content(f"/v1/projects/{session.project(project)}/certificate-authority/crl")
    file.write_bytes(content)
    session.say(f"'{file}' is written")
