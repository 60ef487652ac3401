"""Knowledge bases, their documents, proofs of deletion, meters.

The chunks with their words and vectors are not here: each knowledge base has a table of its own in the schema
``penstock_knowledge``, which the application reaches through functions alone (see migration 0007 and ADR
0009). Growth: one row per document and version; the content of the newest version is kept, so that it can be
indexed again; a proof of a few kilobytes per deletion, kept for ever; four meter rows per knowledge base a day, and
one for each key that searches it.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from penstock.store.schema.base import amount, id_column, instant, metadata

knowledge_base = Table(
    "knowledge_base",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("service_id", Text, ForeignKey("service.id"), nullable=False),  # what makes its vectors
    Column("model", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("language", Text, nullable=False),
    Column("chunk_characters", Integer, nullable=False),
    Column("overlap_characters", Integer, nullable=False),
    Column("wanted", Text, nullable=False, server_default="active"),  # active | deleted
    Column("proof_id", Text),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    instant("metered_until"),
    Column("price_book_id", Text, ForeignKey("price_book.id")),  # NULL: made before there were prices
    Column(
        "owner_id", Text, ForeignKey("service.id"), unique=True
    ),  # the service of kind rag that brought it
    instant("proved_at", nullable=True),  # when a first question went all the way
    Index(None, "tenant_id"),
    Index(None, "metered_until"),
    Index("uq_knowledge_base_name", "project_id", "name", unique=True),
)

document = Table(
    "document",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("knowledge_base_id", Text, ForeignKey("knowledge_base.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("source_url", Text),
    Column("media_type", Text),
    Column("wanted", Text, nullable=False, server_default="indexed"),  # indexed | deleted
    Column("version", Integer, nullable=False),  # the newest
    Column("indexed_version", Integer),  # the one that searches find
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default="none"),
    Column("message", Text, nullable=False, server_default=""),
    amount("size_bytes"),
    Column("sha256", Text),
    Column("pages", Integer),
    amount("characters"),
    Column("chunks_total", Integer),
    Column("chunks_done", Integer, nullable=False, server_default=text("0")),
    Column(
        "chunks_kept", Integer, nullable=False, server_default=text("0")
    ),  # of the version that searches find
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("proof_id", Text),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    instant("updated_at"),
    instant("indexed_at", nullable=True),
    instant("due_at", nullable=True),  # when the engine looks next; NULL: nothing to do
    Column("lease_token", Text),
    instant("leased_until", nullable=True),
    Index("uq_document_name", "knowledge_base_id", "name", unique=True),
    Index(None, "tenant_id"),
    Index("ix_document_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

document_version = Table(
    "document_version",
    metadata,
    Column("document_id", Text, ForeignKey("document.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("sha256", Text),
    amount("size_bytes"),
    Column("media_type", Text),
    Column("content", LargeBinary),  # of the newest version only
    instant("created_at"),
    instant("indexed_at", nullable=True),
)

deletion_proof = Table(
    "deletion_proof",
    metadata,
    id_column(),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("knowledge_base_id", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("state", Text, nullable=False),  # pending | signed
    Column("report", JSONB),
    Column("signed_text", Text),
    Column("signature", Text),
    Column("public_key", Text),
    Column("requested_by", Text, nullable=False),
    instant("requested_at"),
    instant("signed_at", nullable=True),
    Index(None, "tenant_id"),
)

knowledge_usage = Table(
    "knowledge_usage",
    metadata,
    Column("knowledge_base_id", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("key_id", Text, primary_key=True, server_default=""),  # who asked; empty where nobody did
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("service_id", Text, nullable=False),  # the service it belongs to, else the knowledge base's own id
    Column("item", Text, nullable=False),  # the model that makes its vectors
    Column("price_book_id", Text),
    Index(None, "tenant_id", "day"),
)
