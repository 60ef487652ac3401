"""`penstock weights`: which node holds the weights of which model."""

from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import Document, ListLimit, Session, Yes, command

app = typer.Typer(no_args_is_help=True)
Node = Annotated[str | None, typer.Option("--node", help="Name or id of a node.")]
Model = Annotated[str | None, typer.Option("--model", help="Name or id of a model.")]
COLUMNS = (
    Column("ID", "id"),
    Column("NODE", "node_name"),
    Column("MODELS", "models", Kind.LIST),
    Column("STATE", "state"),
    Column("HELD", "held_bytes", Kind.BYTES),
    Column("OF", "size_bytes", Kind.BYTES),
    Column("IN USE", "in_use", Kind.FLAG),
    Column("IN PLACE", "in_place", Kind.FLAG),
    Column("TO GO", "unwanted", Kind.FLAG),
    Column("SINCE", "created_at", Kind.TIME),
    Column("MESSAGE", "message"),
)


def _filter(session: Session, node: str | None, model: str | None) -> Document:
    return {"node_id": None if node is None else session.find("nodes", node), "model": model}


@command(app, "list", examples=["penstock weights list", "penstock weights list --model llama-70b"])
def list_(session: Session, node: Node = None, model: Model = None, limit: ListLimit = None) -> None:
    """List the copies of models' weights that nodes hold or fetch (operators)."""
    session.show_list("/v1/weights", COLUMNS, params=_filter(session, node, model), limit=limit)


@command(
    app,
    "prune",
    examples=["penstock weights prune --node gpu-17 --yes", "penstock weights prune --model old-model --yes"],
)
def prune(
    session: Session,
    node: Node = None,
    model: Model = None,
    yes: Yes = False,  # noqa: FBT002 - the form of a Typer flag
) -> None:
    """Have nodes give up copies that no engine uses: of one node, of one model, or all (operators)."""
    found, _ = session.client.items("/v1/weights", _filter(session, node, model))
    idle = [one for one in found if not (one["in_use"] or one["in_place"])]
    if not idle:
        session.say("nothing to give up: what there is, engines use")
        return
    size_gib = sum(int(one["held_bytes"]) for one in idle) / (1 << 30)
    session.confirm(
        f"Give up {len(idle)} copies, {size_gib:.1f} GiB? They are fetched again when needed.", yes=yes
    )
    for one in idle:
        session.client.request("DELETE", f"/v1/weights/{one['id']}")
    session.say(f"{len(idle)} copies go as soon as their nodes hear of it")
