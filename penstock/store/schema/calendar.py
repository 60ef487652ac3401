"""Reservations: intervals on the calendar. What they hold are rows of ``claim`` without a service.

Growth: one row per booking and maintenance window, a claim per device of it; kept like services.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from penstock.store.schema.base import document, id_column, instant, metadata

reservation = Table(
    "reservation",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id")),  # NULL: maintenance, the operator's
    Column("project_id", Text, ForeignKey("project.id")),
    Column("offer_id", Text, ForeignKey("offer.id")),
    Column("price_book_id", Text, ForeignKey("price_book.id")),
    Column("purpose", Text, nullable=False),  # reserved | maintenance
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("kind", Text),
    document("spec"),  # the order's form, filled in; of maintenance: the nodes
    document("holds"),  # quota amounts by dimension, given back when it is over
    Column("device_class", Text),
    Column("device_count", Integer, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("wanted", Text, nullable=False, server_default="kept"),  # kept | cancelled
    Column("state", Text, nullable=False),
    instant("start_at"),
    instant("end_at"),
    Column("no_show_after_s", Integer),  # NULL: kept to its end, used or not
    Column("own_service_id", Text),  # made for this service's order: over when it is
    instant("used_at", nullable=True),
    instant("active_at", nullable=True),
    instant("over_at", nullable=True),
    instant("due_at", nullable=True),
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    CheckConstraint("end_at > start_at", name="forward"),
    Index("ix_reservation_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index(None, "tenant_id", "id"),
    Index(
        "uq_reservation_live_name",
        "project_id",
        "name",
        unique=True,
        postgresql_where=text("state IN ('booked', 'opening', 'active')"),
    ),
)
