"""`penstock model`: what LLM services can serve."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from penstock.base.errors import PenstockError
from penstock.cli.errors import REFUSED, USAGE, CliError
from penstock.cli.output import Column, Kind
from penstock.cli.session import ListLimit, Session, Yes, command

TenantName = Annotated[str, typer.Option("--tenant", "-t", help="Name or id of the tenant.")]
APPROVAL = (
    Column("TENANT", "tenant_id"),
    Column("APPROVED", "approved_at", Kind.TIME),
    Column("BY", "approved_by"),
    Column("NOTE", "note"),
)

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
    Column("NEEDS APPROVAL", "needs_approval", Kind.FLAG),
    Column("DEMONSTRATION", "demonstration", Kind.FLAG),
    Column("STATE", "state"),
)
DETAIL = (
    *COLUMNS,
    Column("DIMENSIONS", "dimensions", Kind.COUNT),
    Column("CONTEXT TOKENS", "context_tokens", Kind.COUNT),
    Column("ENGINES", "engines", Kind.LIST),
    Column("RUNS ON", "device_classes", Kind.LIST),
    Column("BASE MODEL", "base_model"),
    Column("APPROVED", "approved", Kind.FLAG),
    Column("ORIGIN", "origin"),
    Column("LICENCE TEXT", "licence_text"),
    Column("SHA-256", "sha256"),
    Column("FETCHED FROM", "url"),
    Column("ADDED", "created_at", Kind.TIME),
)

CONVERTED = (
    Column("NAME", "name"),
    Column("PARAMETERS", "parameters", Kind.COUNT),
    Column("CONTEXT TOKENS", "context_tokens", Kind.COUNT),
    Column("QUANTISATION", "quantization"),
    Column("CHAT TEMPLATE", "chat_template"),
    Column("STOP TOKENS", "stop_tokens", Kind.LIST),
)


@command(app, "list", examples=["penstock model list"])
def list_(session: Session, limit: ListLimit = None) -> None:
    """List models."""
    session.show_list("/v1/models", COLUMNS, limit=limit)


@command(app, "show", examples=["penstock model show penstock-demo-5m"])
def show(session: Session, model: Model) -> None:
    """Show one model."""
    session.show(session.client.get(f"/v1/models/{session.find('models', model)}"), DETAIL)


@command(
    app,
    "add",
    examples=[
        "penstock model add /srv/models/small --name small --licence Apache-2.0",
        "penstock model add /srv/models/big --licence LLAMA-3.1 --licence-file LICENSE --needs-approval",
        "penstock model add /srv/adapters/sql --base-model big",
    ],
)
def add(
    session: Session,
    folder: Annotated[str, typer.Argument(help="Absolute path on the control plane's host.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Without it, what the model says of itself.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Its id or name, for people.")] = None,
    licence_file: Annotated[
        Path | None, typer.Option("--licence-file", help="The licence's text.", exists=True, dir_okay=False)
    ] = None,
    origin: Annotated[str, typer.Option("--origin", help="Where it comes from, for people.")] = "",
    *,
    needs_approval: Annotated[
        bool, typer.Option("--needs-approval", help="Only tenants that are approved may order it.")
    ] = False,
    base_model: Annotated[
        str | None, typer.Option("--base-model", help="For a LoRA adapter: the model that it changes.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", help="Folder (https) with the same files, for nodes to fetch from.")
    ] = "",
) -> None:
    """Add a model from a folder; every file in it is checked first (operators)."""
    body = {
        "folder": folder,
        "name": name,
        "licence": licence,
        "licence_text": licence_file.read_text("utf-8", errors="replace") if licence_file else "",
        "origin": origin,
        "needs_approval": needs_approval,
        "base_model": base_model,
        "url": url,
    }
    session.show(session.client.post("/v1/models", body), DETAIL)


@command(
    app,
    "convert",
    examples=[
        "penstock model convert ~/checkpoints/tiny-llama /srv/models/tiny-llama",
        "penstock model convert ~/checkpoints/tiny-llama /srv/models/tiny-sql --adapter ~/adapters/sql --quantization float16",
    ],
)
def convert(
    session: Session,
    folder: Annotated[
        Path, typer.Argument(help="Hugging Face checkpoint of the Llama family on this machine.")
    ],
    target: Annotated[Path, typer.Argument(help="Folder to write; it must not be there.")],
    quantization: Annotated[
        str, typer.Option("--quantization", help="int8, int8_float16, float16 or float32.")
    ] = "int8",
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="Folder of a LoRA adapter to merge into it.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Without it, the folder's name.")] = None,
) -> None:
    """Make a local checkpoint a model of the embedded engine; works on this machine and asks no factory."""
    converter = import_module(
        "penstock.drivers.ctranslate2.convert"
    )  # NumPy and the engine: not for every start
    target = target.expanduser().resolve()
    try:
        about = converter.convert(
            folder.expanduser().resolve(),
            target,
            quantization=quantization,
            adapter=None if adapter is None else adapter.expanduser().resolve(),
            name=name,
        )
    except PenstockError as error:
        raise CliError(f"{error.field}: {error.sentence}", USAGE) from error
    except OSError as error:
        raise CliError(f"{target} cannot be written: {error.strerror or error}", REFUSED) from error
    session.show(about, CONVERTED)
    session.say(f"written to {target}; add it on the control plane's host: penstock model add {target}")


@command(app, "retire", examples=["penstock model retire small --yes"])
def retire(session: Session, model: Model, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Let no new service order a model; what runs on it goes on (operators)."""
    model_id = session.find("models", model)
    session.confirm(f"Retire the model '{model}'?", yes=yes)
    session.show(session.client.post(f"/v1/models/{model_id}/retire"), DETAIL)


@command(app, "approve", examples=["penstock model approve big --tenant acme --note 'contract of May'"])
def approve(
    session: Session,
    model: Model,
    tenant: TenantName,
    note: Annotated[str, typer.Option("--note", help="Why, for people.")] = "",
) -> None:
    """Let a tenant order a model that needs approval (operators)."""
    path = f"/v1/models/{session.find('models', model)}/approvals/{session.find('tenants', tenant)}"
    session.show(session.client.put(path, {"note": note}), APPROVAL)


@command(app, "withdraw", examples=["penstock model withdraw big --tenant acme --yes"])
def withdraw(session: Session, model: Model, tenant: TenantName, yes: Yes = False) -> None:  # noqa: FBT002 - the form of a Typer flag
    """Let a tenant order a model no longer; what runs on it goes on (operators)."""
    path = f"/v1/models/{session.find('models', model)}/approvals/{session.find('tenants', tenant)}"
    session.confirm(f"Withdraw the approval of '{model}' for '{tenant}'?", yes=yes)
    session.client.request("DELETE", path)
    session.say("withdrawn")


@command(app, "approvals", examples=["penstock model approvals big"])
def approvals(session: Session, model: Model, limit: ListLimit = None) -> None:
    """List the tenants that may order a model which needs approval (operators)."""
    session.show_list(f"/v1/models/{session.find('models', model)}/approvals", APPROVAL, limit=limit)
