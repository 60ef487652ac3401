"""Certificates of projects, the projects' authorities, and the serials that those gave out.

Growth: a row per certificate; a serial per certificate and rotation, kept until it would have expired (90 days at most).
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY

from penstock.store.schema.base import id_column, instant, metadata

certificate = Table(
    "certificate",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("source", Text, nullable=False),  # issued | uploaded
    Column("names", ARRAY(Text), nullable=False),
    Column("life_days", Integer),  # NULL: uploaded
    Column("chain_pem", Text, nullable=False),
    Column("sealed_key", Text, nullable=False),  # by drivers/pki/vault, for this row alone
    Column("serial", Text, nullable=False),
    Column("fingerprint_sha256", Text, nullable=False),
    Column("key_kind", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),  # counts contents
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    instant("begins_at"),
    instant("expires_at"),
    instant("rotate_at", nullable=True),  # NULL: never by itself
    instant("revoked_at", nullable=True),
    instant("warned_at", nullable=True),  # when its owner was told that it ends
    UniqueConstraint("project_id", "name"),
    Index(None, "tenant_id"),
    Index(None, "rotate_at", postgresql_where=text("rotate_at IS NOT NULL")),
    Index(None, "expires_at"),
)

certificate_authority = Table(
    "certificate_authority",
    metadata,
    Column("project_id", Text, ForeignKey("project.id"), primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("certificate_pem", Text, nullable=False),
    Column("sealed_key", Text, nullable=False),
    instant("created_at"),
    Index(None, "tenant_id"),
)

certificate_serial = Table(
    "certificate_serial",
    metadata,
    Column("project_id", Text, ForeignKey("project.id"), primary_key=True),
    Column("serial", Text, primary_key=True),  # hex
    Column("tenant_id", Text, nullable=False),
    Column("certificate_id", Text, nullable=False),  # which may be gone
    instant("expires_at"),
    instant("revoked_at", nullable=True),
    Index(None, "tenant_id"),
    Index(None, "certificate_id"),
    Index(None, "expires_at"),
)
