"""`penstock model`: what LLM services can serve."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Model = Annotated[str, typer.Argument(help="Its name or id.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NAME", "name"),
    Column("KIND", "kind"),
    Column("FORMAT", "format"),
    Column("SIZE", "size_bytes", Kind.BYTES),
    Column("PARAMETERS", "parameters", Kind.COUNT),
    Column("LICENCE", "licence"),
    Column("DEMONSTRATION", "demonstration", Kind.FLAG),
    Column("STATE", "state"),
)
DETAIL = (
    *COLUMNS,
    Column("DIMENSIONS", "dimensions", Kind.COUNT),
    Column("CONTEXT TOKENS", "context_tokens", Kind.COUNT),
    Column("ENGINES", "engines", Kind.LIST),
    Column("RUNS ON", "device_classes", Kind.LIST),
    Column("SHA-256", "sha256"),
    Column("ADDED", "created_at", Kind.TIME),
)


@command(app, "list", examples=["penstock model list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List models."""
    session.show_list("/v1/models", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock model show penstock-demo-5m"])
def show(session: Session, model: Model) -> None:
    """Show one model."""
    session.show(session.client.get(f"/v1/models/{session.find('models', model)}"), DETAIL)


@command(app, "add", examples=["penstock model add /srv/models/small --name small --licence Apache-2.0"])
def add(
    session: Session,
    folder: Annotated[str, typer.Argument(help="Absolute path on the control plane's host.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Without it, what the model says of itself.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="For people; checked by nobody.")] = None,
) -> None:
    """Add a model from a folder; every file in it is checked first (operators)."""
    body = {"folder": folder, "name": name, "licence": licence}
    session.show(session.client.post("/v1/models", body), DETAIL)


@command(app, "retire", examples=["penstock model retire small --yes"])
def retire(session: Session, model: Model, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Let no new service order a model; what runs on it goes on (operators)."""
    model_id = session.find("models", model)
    session.confirm(f"Retire the model '{model}'?", yes=yes)
    session.show(session.client.post(f"/v1/models/{model_id}/retire"), DETAIL)
