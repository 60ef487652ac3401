"""What money is made of, for tests: a factory with prices and devices, services that hold devices or make tokens."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from penstock.actions.seed import seed_catalogue
from penstock.control_plane import ControlPlane
from penstock.domain.segment import FREE, Holding, SegmentState
from penstock.store import offer as offer_store
from penstock.store import price_book as price_book_store
from penstock.store import segment as segment_store
from penstock.store.database import SYSTEM
from penstock.store.schema import device, service, token_usage
from tests.support.infrastructure import enroll
from tests.support.tenancy import Tenant

_numbers = itertools.count(1)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Market:
    """A factory with the first price book and offers and ``devices``: simulated GB200 of seven slices."""

    plane: ControlPlane
    devices: Sequence[str]

    def service(
        self,
        tenant: Tenant,
        *,
        offer: str = "gb200",
        simulated: bool = True,
        project_id: str | None = None,
        price_book_id: str | None = None,
        **more: Any,
    ) -> str:
        """Insert a running service of the tenant's project and return its id."""
        service_id = self.plane.context.new_id("service")
        at = self.plane.clock.now()
        with self.plane.db.transaction(SYSTEM) as connection:
            (offered,) = offer_store.page(
                connection, tenant_id=None, after=None, limit=2, name=offer, state="active"
            )
            book = price_book_id or price_book_store.latest_id(connection)
            row = {
                "id": service_id,
                "tenant_id": tenant.id,
                "project_id": project_id or tenant.project_id,
                "offer_id": offered["id"],
                "kind": offered["kind"],
                "name": f"s-{next(_numbers)}",
                "spec": {},
                "holds": {},
                "ordered_by": tenant.member.principal_id,
                "price_book_id": book,
                "simulated": simulated,
                "wanted": "running",
                "state": "running",
                "ordered_at": at,
                "queued_at": at,
                "request_sha256": "",
                **more,
            }
            connection.execute(sa.insert(service).values(**row))
        return service_id

    def hold(
        self,
        service_id: str,
        start: datetime,
        end: datetime | None,
        *,
        position: int = 0,
        slices: tuple[int, int] = (0, 7),
        state: SegmentState = SegmentState.SOLD_BUSY,
    ) -> None:
        """Let a service hold slices of a device from ``start`` to ``end`` (None: on and on)."""
        with self.plane.db.transaction(SYSTEM) as connection:
            row = connection.execute(sa.select(service).where(service.c.id == service_id)).mappings().one()
            holding = Holding(
                state,
                None,
                row["tenant_id"],
                row["project_id"],
                service_id,
                row["offer_id"],
                row["price_book_id"],
            )
            segment_store.cut_many(connection, [(self.devices[position], *slices, holding)], start)
            if end is not None:
                segment_store.cut_many(connection, [(self.devices[position], *slices, FREE)], end)

    def state(self, start: datetime, holding: Holding, *, position: int = 0) -> None:
        """Put a whole device into a state that nobody is charged for."""
        with self.plane.db.transaction(SYSTEM) as connection:
            segment_store.cut_many(connection, [(self.devices[position], 0, 7, holding)], start)

    def tokens(
        self,
        tenant: Tenant,
        service_id: str,
        counts: Iterable[tuple[int, int]],
        *,
        at: datetime | None = None,
        key_id: str = "key_a",
        model: str = "tiny",
        price_book_id: str | None = None,
    ) -> None:
        """Meter one request for each pair of input and output tokens."""
        at = at or self.plane.clock.now()
        with self.plane.db.transaction(SYSTEM) as connection:
            row = connection.execute(sa.select(service).where(service.c.id == service_id)).mappings().one()
            rows = [
                {
                    "id": f"use_{next(_numbers)}",
                    "tenant_id": tenant.id,
                    "project_id": row["project_id"],
                    "principal_id": tenant.member.principal_id,
                    "service_id": service_id,
                    "key_id": key_id,
                    "allocation_id": "alc",
                    "endpoint": "/v1/chat/completions",
                    "model": model,
                    "price_book_id": price_book_id or row["price_book_id"],
                    "prompt_tokens": read,
                    "completion_tokens": written,
                    "ending": "stop",
                    "streamed": True,
                    "estimated": False,
                    "started_at": at,
                    "ended_at": at,
                    "received_at": at,
                }
                for read, written in counts
            ]
            connection.execute(sa.insert(token_usage), rows)


def make_market(plane: ControlPlane, *, nodes: int = 1) -> Market:
    """Publish the first prices and offers and enrol simulated nodes of four GB200."""
    seed_catalogue(plane.context)
    enroll(plane.context, [f"n{n}" for n in range(nodes)])
    with plane.db.transaction(SYSTEM) as connection:
        devices = list(connection.execute(sa.select(device.c.id).order_by(device.c.id)).scalars())
    return Market(plane, devices)
