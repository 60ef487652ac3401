"""Virtual machines: SSH keys, images, what makes a service a machine, snapshots, consoles.

Growth: a row per object of a tenant. vm grows with orders and is kept with its service. vm_console holds the newest
part of each console: at most ``limits.CONSOLE_BYTES_MAX`` a machine, and nothing older than ``limits.CONSOLE_KEPT``.
console_session has a row for each time that somebody typed into one, forgotten after as long.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from penstock.store.schema.base import amount, document, id_column, instant, metadata

ssh_key = Table(
    "ssh_key",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    UniqueConstraint("project_id", "name"),
    Index(None, "tenant_id"),
)

# tenant_id NULL and published: of the operator's catalogue; everybody may start machines from it.
image = Table(
    "image",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id")),
    Column("project_id", Text, ForeignKey("project.id")),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("architecture", Text, nullable=False),
    Column("published", Boolean, nullable=False, server_default=text("false")),
    Column(
        "shared", Boolean, nullable=False, server_default=text("false")
    ),  # with all projects of the tenant
    Column(
        "shared_with", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")
    ),  # with these projects of the tenant
    Column("state", Text, nullable=False),  # pending | active | failed
    Column("message", Text, nullable=False, server_default=""),
    Column("sha256", Text),
    amount("size_bytes"),
    amount("virtual_bytes"),
    document("provenance"),  # where it is from: upload, url, machine; by whom, when
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    # Of one that is fetched from an address: how far it is, when it is to be gone on with, and who is at it.
    Column("source_url", Text),
    Column("etag", Text),
    amount("received_bytes"),
    Column("total_bytes", BigInteger),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    instant("due_at", nullable=True),
    Column("lease_token", Text),
    instant("leased_until", nullable=True),
    # Of one that is made of a machine's disk. A temporary one is a clone's, and goes when no machine needs it.
    Column("from_service_id", Text),
    Column("from_snapshot_id", Text),
    Column("temporary", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("project_id", "name"),
    Index(None, "tenant_id"),
    Index("ix_image_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index(
        "ix_image_from_service_id", "from_service_id", postgresql_where=text("from_service_id IS NOT NULL")
    ),
)

vm = Table(
    "vm",
    metadata,
    Column("service_id", Text, ForeignKey("service.id"), primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("image_id", Text, ForeignKey("image.id"), nullable=False),
    Column("host_name", Text, nullable=False),
    Column("uuid", Text, nullable=False),
    Column("architecture", Text, nullable=False),
    Column("vcpus", Integer, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("disk_gib", Integer, nullable=False),
    document("ssh_keys"),  # public lines, as they were at launch: cloud-init reads them once
    Column("user_data", LargeBinary, nullable=False),
    document("tags"),
    document("nics"),  # of bridges that an offer names; those of ports are in the ports' rows
    Column(
        "volumes", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")
    ),  # that its node is told to plug in, in order
    Column("power", Text, nullable=False, server_default="on"),
    Column("boots", Integer, nullable=False, server_default=text("0")),
    Column("restores", Integer, nullable=False, server_default=text("0")),
    Column("restore_from", Text),
    Column("move", JSONB),  # a move under way: to where, how far
    Column("generation", BigInteger, nullable=False, server_default=text("1")),
    instant("changed_at"),
    Index(None, "tenant_id"),
    Index(None, "image_id"),
    Index("ix_vm_move", "service_id", postgresql_where=text("move IS NOT NULL")),
)

vm_snapshot = Table(
    "vm_snapshot",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, nullable=False),
    Column("service_id", Text, ForeignKey("vm.service_id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("size_gib", Integer, nullable=False),  # of what it is a snapshot of; counted against quotas
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    Column(
        "noted", Boolean, nullable=False, server_default=text("false")
    ),  # that it is made: see snapshot_time
    UniqueConstraint("service_id", "name"),
    Index(None, "tenant_id"),
    Index("ix_vm_snapshot_new", "service_id", postgresql_where=text("NOT noted")),
)

vm_time = Table(
    "vm_time",
    metadata,
    # One row for each shape that a machine had, from its first readiness to its end; it is what is charged.
    Column("service_id", Text, ForeignKey("vm.service_id"), nullable=False),
    instant("start_at"),
    instant("end_at", nullable=True),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("price_book_id", Text, nullable=False),
    Column("architecture", Text, nullable=False),
    Column("vcpus", Integer, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("disk_gib", Integer, nullable=False),
    Column("simulated", Boolean, nullable=False),
    PrimaryKeyConstraint("service_id", "start_at"),
    Index(None, "tenant_id", "end_at"),
    Index("uq_vm_time_open", "service_id", unique=True, postgresql_where=text("end_at IS NULL")),
)

vm_console = Table(
    "vm_console",
    metadata,
    Column("service_id", Text, ForeignKey("vm.service_id"), primary_key=True),
    Column("begin_offset", BigInteger, primary_key=True),
    Column("allocation_id", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    instant("received_at"),
    Index(None, "received_at"),
)

console_session = Table(
    "console_session",
    metadata,
    id_column(),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("service_id", Text, ForeignKey("vm.service_id"), nullable=False),
    Column("allocation_id", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("principal_id", Text, nullable=False),
    instant("opened_at"),
    instant("seen_at"),  # by the process that carries it
    instant("attached_at", nullable=True),  # its host types
    instant("closed_at", nullable=True),
    Column("reason", Text),
    Column("typed", LargeBinary, nullable=False, server_default=""),  # keys that the host has not taken yet
    amount("typed_bytes"),  # in all
    amount("shown_bytes"),
    Index(None, "tenant_id"),
    Index(None, "service_id"),
    Index("ix_console_session_open", "agent_id", postgresql_where=text("closed_at IS NULL")),
)
