"""Volumes, their snapshots, and what they held each day.

Growth: a row per volume and snapshot of a tenant; a row per volume and day, kept when the volume is gone.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from penstock.store.schema.base import id_column, instant, metadata

volume = Table(
    "volume",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("driver", Text, nullable=False),
    Column("size_gib", Integer, nullable=False),
    Column("sealed_key", Text),  # NULL: it is not encrypted
    Column("node_id", Text, ForeignKey("node.id")),  # where it was made; NULL: nowhere yet
    Column("service_id", Text, ForeignKey("vm.service_id")),  # the machine that has it
    Column("attached", Boolean, nullable=False, server_default=text("false")),  # that machine was told
    Column("detaching", Boolean, nullable=False, server_default=text("false")),
    Column("restores", Integer, nullable=False, server_default=text("0")),
    Column("restore_from", Text),
    Column("cloned_from", Text),  # the volume that it began as, which may be gone by now
    Column("cloned_snapshot", Text),  # NULL: as that was then
    Column("wanted", Text, nullable=False, server_default="present"),  # present | deleted
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    instant("metered_until"),
    UniqueConstraint("project_id", "name"),
    Index(None, "tenant_id"),
    Index(None, "node_id"),
    Index(None, "service_id"),
    Index(None, "metered_until"),
    Index("ix_volume_cloned_from", "cloned_from", postgresql_where=text("cloned_from IS NOT NULL")),
    Index(
        "ix_volume_open",
        "id",
        postgresql_where=text(
            "wanted = 'deleted'::text OR detaching OR service_id IS NOT NULL AND NOT attached"
        ),
    ),
)

volume_snapshot = Table(
    "volume_snapshot",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("volume_id", Text, ForeignKey("volume.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("size_gib", Integer, nullable=False),  # of what it is a snapshot of; counted against quotas
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    Column(
        "noted", Boolean, nullable=False, server_default=text("false")
    ),  # that it is made: see snapshot_time
    UniqueConstraint("volume_id", "name"),
    Index(None, "tenant_id"),
    Index("ix_volume_snapshot_new", "volume_id", postgresql_where=text("NOT noted")),
)

volume_usage = Table(
    "volume_usage",
    metadata,
    Column("volume_id", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("gib_seconds", BigInteger, nullable=False),
    Index(None, "tenant_id"),
)

volume_time = Table(
    "volume_time",
    metadata,
    # One row for each size that a volume had, from its making to its end; it is what is charged.
    Column("volume_id", Text, primary_key=True),
    Column("start_at", DateTime(timezone=True), primary_key=True),
    instant("end_at", nullable=True),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("price_book_id", Text, nullable=False),
    Column("driver", Text, nullable=False),
    Column("size_gib", Integer, nullable=False),
    Index(None, "tenant_id", "end_at"),
    Index("uq_volume_time_open", "volume_id", unique=True, postgresql_where=text("end_at IS NULL")),
)

snapshot_time = Table(
    "snapshot_time",
    metadata,
    # One row for each snapshot of a machine or volume, from when it was made to its deletion; it is what is charged.
    Column("snapshot_id", Text, primary_key=True),
    instant("start_at"),
    instant("end_at", nullable=True),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("price_book_id", Text, nullable=False),
    Column("of_id", Text, nullable=False),
    Column("driver", Text, nullable=False),
    Column("size_mib", Integer, nullable=False),
    Index(None, "tenant_id", "end_at"),
    Index("ix_snapshot_time_open", "of_id", postgresql_where=text("end_at IS NULL")),
)
