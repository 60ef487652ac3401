"""`penstock audit`: who changed what, when, from where, and what was refused."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import Document, Session, TenantOption, command

app = typer.Typer(no_args_is_help=True)
COLUMNS = (
    Column("WHEN", "at", Kind.TIME),
    Column("WHO", "principal_id"),
    Column("WHAT", "action"),
    Column("ON", "subject_id"),
    Column("OUTCOME", "outcome"),
    Column("FROM", "source_address"),
)
_PAGE = 500


@command(
    app, "list", examples=["penstock audit list", "penstock audit list --subject prj_01... --output json"]
)
def list_(
    session: Session,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many.")] = 100,
    subject: Annotated[str | None, typer.Option("--subject", help="Only changes of this id.")] = None,
    tenant: TenantOption = None,
) -> None:
    """List changes, newest first (operators, auditors, administrators of a tenant)."""
    found: list[Document] = []
    query: Document = {"subject": subject, "tenant_id": session.tenant(tenant)}
    while True:
        query["limit"] = min(_PAGE, limit - len(found))
        page = session.client.get("/v1/audit", query)
        found += page["items"]
        query["before"] = page["next"]
        if page["next"] is None or len(found) >= limit:
            break
    session.show_items(found, COLUMNS, more=query["before"])
