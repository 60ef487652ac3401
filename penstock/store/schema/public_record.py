"""Public records of tenants. Growth: at most 1,000 rows a project."""

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from penstock.store.schema.base import id_column, instant, metadata

public_record = Table(
    "public_record",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),  # relative to the tenant's zone, or @
    Column("description", Text, nullable=False, server_default=""),
    instant("created_at"),
    Column("type", Text, nullable=False),  # A | AAAA | CNAME | TXT
    Column("value", Text, nullable=False),
    Column("ttl_seconds", Integer, nullable=False),
    Index(None, "project_id"),
    UniqueConstraint("tenant_id", "name", "type", "value"),
)
