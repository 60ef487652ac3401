"""Offers, prices, models, services and the decisions made about them.

Growth: an autoscale row per elastic endpoint; service and decision grow with orders; decisions of ended services are removed after 90 days.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from penstock.store.schema.base import amount, document, id_column, instant, metadata

offer = Table(
    "offer",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    document("form"),
    document("fixed"),
    Column("eligible_tenants", ARRAY(Text)),  # NULL: everybody
    Column("state", Text, nullable=False),  # active | retired
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    instant("created_at"),
)

price_book = Table(
    "price_book",
    metadata,
    id_column(),
    Column("version", Integer, nullable=False, unique=True),
    Column("note", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
)

price = Table(
    "price",
    metadata,
    Column("price_book_id", Text, ForeignKey("price_book.id"), primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    amount("microeur_per_unit"),
)

model = Table(
    "model",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("format", Text, nullable=False),
    Column("folder", Text, nullable=False),
    amount("size_bytes"),
    amount("parameters"),
    Column("context_tokens", Integer, nullable=False),
    Column("licence", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("engines", ARRAY(Text), nullable=False),
    Column("device_classes", ARRAY(Text), nullable=False),
    Column("demonstration", Boolean, nullable=False),
    Column("kind", Text, nullable=False, server_default="generation"),  # generation | embedding
    Column("dimensions", Integer),  # of an embedding model's vectors
    Column("state", Text, nullable=False),  # active | retired
    instant("created_at"),
    Column("origin", Text, nullable=False, server_default=""),  # where it comes from, for people
    Column("licence_text", Text, nullable=False, server_default=""),
    Column("needs_approval", Boolean, nullable=False, server_default=text("false")),  # of each tenant
    Column("base_model", Text),  # of an adapter: the name of the model that it changes
    # Its files by name, with size and SHA-256; empty: not known, engines read its folder where it is.
    Column("files", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("url", Text, nullable=False, server_default=""),  # a folder (https) that nodes fetch them from
    Index(None, "sha256"),
)

# Growth: one row per model and tenant that was approved.
model_approval = Table(
    "model_approval",
    metadata,
    Column("model_id", Text, ForeignKey("model.id"), primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenant.id"), primary_key=True),
    Column("note", Text, nullable=False, server_default=""),
    Column("approved_by", Text, nullable=False),
    instant("approved_at"),
)

service = Table(
    "service",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("offer_id", Text, ForeignKey("offer.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    document("spec"),
    document("holds"),  # quota amounts by dimension, given back on release
    Column("ordered_by", Text, nullable=False),
    Column("price_book_id", Text, ForeignKey("price_book.id"), nullable=False),
    Column("simulated", Boolean),  # NULL until placed
    Column("wanted", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default="none"),
    Column("message", Text, nullable=False, server_default=""),
    Column("ends_as", Text, nullable=False, server_default="released"),
    Column("avoid_nodes", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")),
    # The order that this one makes room for: it is to stop, and to be queued again. Of another tenant, maybe.
    Column("yields_to", Text),
    Column(
        "replicas_wanted", Integer
    ),  # of an endpoint whose replicas follow the load; NULL: not decided yet
    Column("reservation_id", Text, ForeignKey("reservation.id")),  # it runs inside, and nowhere else
    instant("ends_at", nullable=True),  # it is released then
    Column("duration_s", Integer),  # ends_at is so long after it was placed
    instant("release_at", nullable=True),  # its release was asked for then; until then it can be taken back
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # A leased row is due again when the lease ends; NULL: nothing will happen by itself.
    instant("due_at", nullable=True),
    Column("lease_token", Text),
    instant("deadline_at", nullable=True),
    instant("ordered_at"),
    instant("queued_at"),
    instant("placed_at", nullable=True),
    instant("started_at", nullable=True),
    instant("loaded_at", nullable=True),
    instant("running_at", nullable=True),
    instant("first_token_at", nullable=True),
    instant("released_at", nullable=True),
    Column("idempotency_key", Text),
    Column("request_sha256", Text, nullable=False),
    Index("ix_service_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_service_tenant_id_id", "tenant_id", "id"),
    Index(
        "ix_service_ends_at",
        "ends_at",
        postgresql_where=text(
            "ends_at IS NOT NULL AND wanted = 'running' AND state NOT IN ('released', 'failed')"
        ),
    ),
    Index(
        "ix_service_release_at",
        "release_at",
        postgresql_where=text(
            "release_at IS NOT NULL AND wanted = 'running' AND state NOT IN ('released', 'failed')"
        ),
    ),
    Index("ix_service_reservation_id", "reservation_id", postgresql_where=text("reservation_id IS NOT NULL")),
    Index(
        "uq_service_live_name",
        "project_id",
        "name",
        unique=True,
        postgresql_where=text("state NOT IN ('released', 'failed')"),
    ),
    Index(
        "uq_service_idempotency_key",
        "project_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
)

# What the autoscaler remembers of an endpoint; one row for each whose replicas follow the load.
autoscale = Table(
    "autoscale",
    metadata,
    Column("service_id", Text, ForeignKey("service.id"), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    instant("busy_at"),
    instant("needed_at"),
    instant("up_at", nullable=True),
    instant("demanded_until", nullable=True),  # a part of the factory itself needs a replica
    # The last step, for explanations: why, from, to, what was heard.
    Column("step", JSONB),
    instant("stepped_at", nullable=True),
    instant("due_at", nullable=True),
    Index("ix_autoscale_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index(None, "tenant_id"),
)

# What an endpoint promises, and what became of its requests, minute by minute (removed after 31 days).
objective = Table(
    "objective",
    metadata,
    Column("service_id", Text, ForeignKey("service.id"), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("ttft_ms", Integer),
    Column("token_ms", Integer),  # mean time between two tokens of a stream
    Column("percent_ppm", Integer, nullable=False),
    Column("availability_ppm", Integer),
    instant("created_at"),
    Index(None, "tenant_id"),
)

objective_minute = Table(
    "objective_minute",
    metadata,
    Column("service_id", Text, primary_key=True),
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    amount("requests"),
    amount("missed"),
    amount("late"),
    amount("slow"),
    amount("failed"),
    Index(None, "minute"),
    Index(None, "tenant_id"),
)

decision = Table(
    "decision",
    metadata,
    id_column(),
    Column("service_id", Text, ForeignKey("service.id"), nullable=False),
    Column("tenant_id", Text, nullable=False),
    instant("at"),
    Column("outcome", Text, nullable=False),  # placed | pending | never_fits | conflict
    Column("snapshot_id", Text, nullable=False),
    Column("policy", Text, nullable=False),
    document("detail"),
    Index(None, "service_id", "at"),
)
