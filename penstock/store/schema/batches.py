"""Files and batches.

Growth: one row per file with its content, for 30 days; one per batch; one per request of a batch, with question and
answer, until the output file is written, which is what they are for.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from penstock.store.schema.base import amount, id_column, instant, metadata

file = Table(
    "file",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("purpose", Text, nullable=False),  # batch | batch_output
    amount("size_bytes"),
    Column("sha256", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    instant("expires_at"),
    Index(None, "project_id"),
    Index(None, "expires_at"),
)

batch = Table(
    "batch",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("wanted", Text, nullable=False, server_default="completed"),  # completed | cancelled
    Column("input_file_id", Text, nullable=False),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    Column("errors", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("principal_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),  # whose limits and whose books
    Column("pass_sha256", Text, nullable=False),  # of what its worker shows to the gateway
    Column("pass_sealed", Text, nullable=False),
    Column("total", Integer, nullable=False, server_default=text("0")),
    Column("completed", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("message", Text, nullable=False, server_default=""),
    instant("created_at"),
    instant("expires_at"),
    instant("in_progress_at", nullable=True),
    instant("finalizing_at", nullable=True),
    instant("cancelling_at", nullable=True),
    instant("ended_at", nullable=True),
    instant("due_at", nullable=True),
    Column("lease_token", Text),
    instant("leased_until", nullable=True),
    Index(None, "project_id"),
    Index("ix_batch_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

batch_line = Table(
    "batch_line",
    metadata,
    Column("batch_id", Text, ForeignKey("batch.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("custom_id", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),  # pending | completed | failed
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("body", Text, nullable=False),
    Column("status_code", Integer),
    Column("answer", Text),
    Column("code", Text),
    Column("message", Text),
    Column("record_id", Text),
    Column("tokens", BigInteger, nullable=False, server_default=text("0")),
    Index("ix_batch_line_pending", "batch_id", "number", postgresql_where=text("state = 'pending'")),
)
