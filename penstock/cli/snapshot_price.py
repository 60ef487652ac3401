"""Take a snapshot of a machine or a volume, or ask what it would cost."""

from collections.abc import Sequence
from typing import Annotated

import typer

from penstock.cli.output import Column, Kind
from penstock.cli.session import Session

PLAN = (
    Column("SIZE (GIB)", "size_gib", Kind.COUNT),
    Column("DRIVER", "driver"),
    Column("PER HOUR AT MOST", "microeur_per_hour_max", Kind.MICROEUR),
    Column("PRICE BOOK", "price_book_id"),
)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only check it and say what it costs at most.")]


def take(session: Session, path: str, name: str, columns: Sequence[Column], *, dry_run: bool) -> None:
    """Ask for a snapshot of what stands at ``path`` and show it, or with ``dry_run`` its price."""
    if dry_run:
        session.show(
            session.client.post(f"{path}/snapshots", {"name": name}, params={"dry_run": "true"}), PLAN
        )
        return
    session.show(session.client.post(f"{path}/snapshots", {"name": name}), columns)
