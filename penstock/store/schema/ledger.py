"""The ledger: segments of device time, token usage, invoices.

Growth: two to four segments per device and order (a device that is sold all day adds none), one
token_usage row per request to an endpoint. Both are kept ten years by default; partition by month when a
factory passes some 100 million rows.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)

from penstock.store.schema.base import amount, id_column, instant, metadata

segment = Table(
    "segment",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("device_id", Text, ForeignKey("device.id"), nullable=False),
    Column("device_class", Text, nullable=False),
    Column("device_slices", SmallInteger, nullable=False),
    Column("slice_low", SmallInteger, nullable=False),
    Column("slice_high", SmallInteger, nullable=False),
    instant("start_at"),
    instant("end_at", nullable=True),
    Column("state", Text, nullable=False),
    Column("cause", Text),
    Column("tenant_id", Text),
    Column("project_id", Text),
    Column("service_id", Text),
    Column("offer_id", Text),
    Column("price_book_id", Text),
    Column("simulated", Boolean, nullable=False),
    CheckConstraint("end_at IS NULL OR end_at >= start_at", name="forward"),
    CheckConstraint("slice_low >= 0 AND slice_high > slice_low", name="slices"),
    Index("uq_segment_open", "device_id", "slice_low", unique=True, postgresql_where=text("end_at IS NULL")),
    # A running month asks for what is open or ended since; what ended before is never looked at.
    Index(None, "tenant_id", "end_at", postgresql_where=text("tenant_id IS NOT NULL")),
    Index(None, "service_id", postgresql_where=text("service_id IS NOT NULL")),
    Index(None, "device_id", "id"),  # a device's history, newest first
    Index("ix_segment_start_at", "start_at", postgresql_using="brin"),
)

token_usage = Table(
    "token_usage",
    metadata,
    id_column(),  # the gateway's record id: delivering it twice writes it once
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("principal_id", Text, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("allocation_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("price_book_id", Text, nullable=False),
    amount("prompt_tokens"),
    amount("completion_tokens"),
    Column("ending", Text, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("estimated", Boolean, nullable=False),
    instant("started_at"),
    instant("first_token_at", nullable=True),
    instant("ended_at"),
    instant("received_at"),
    Column("batch_id", Text),  # whose request it was, if a batch's
    Index(None, "tenant_id", "ended_at"),
    Index(None, "service_id"),
)

invoice = Table(
    "invoice",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("number", Text, unique=True),  # given when it becomes final
    instant("period_start"),
    instant("period_end"),
    Column("state", Text, nullable=False),  # draft | final
    amount("total_microeur"),
    instant("created_at"),
    instant("final_at", nullable=True),
    Column("corrects_invoice_id", Text, ForeignKey("invoice.id")),
    # Two replicas that draft the same month meet here.
    Index(
        "uq_invoice_period",
        "tenant_id",
        "period_start",
        unique=True,
        postgresql_where=text("corrects_invoice_id IS NULL"),
    ),
    Index(None, "corrects_invoice_id", postgresql_where=text("corrects_invoice_id IS NOT NULL")),
)

invoice_line = Table(
    "invoice_line",
    metadata,
    Column("invoice_id", Text, ForeignKey("invoice.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("key_id", Text),
    Column("meter", Text, nullable=False),
    Column("item", Text, nullable=False),
    amount("quantity"),
    Column("quantity_unit", Text, nullable=False),
    Column("quantity_per_unit", BigInteger, nullable=False),  # how many of them one price is for
    amount("microeur_per_unit"),
    amount("amount_microeur"),
    Column("price_book_id", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("kind", Text, nullable=False),  # charge | correction
    Column("corrects", Text),  # the line a correction corrects: <invoice number>/<position>
)
