"""Load balancers: an address in a network, what it listens on, who is behind it, and what was counted.

Growth: a row per load balancer of a tenant; nothing grows with connections or time.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from penstock.store.schema.base import amount, document, id_column, instant, metadata

_EMPTY = text("'{}'::jsonb")

load_balancer = Table(
    "load_balancer",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("network_id", Text, ForeignKey("network.id"), nullable=False),
    Column("port_id", Text, ForeignKey("port.id"), nullable=False, unique=True),  # its own, with its address
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("algorithm", Text, nullable=False),
    document("listeners"),
    document("members"),
    document("health_check"),
    Column("node_id", Text, ForeignKey("node.id")),  # where it is carried; NULL: nowhere yet
    Column("wanted", Text, nullable=False, server_default="present"),  # present | deleted
    Column("revision", BigInteger, nullable=False, server_default=text("1")),
    Column("applied_revision", BigInteger, nullable=False, server_default=text("0")),  # its host was told
    instant("due_at", nullable=True),  # when the engine looks at it next; NULL: nothing to do
    instant("seen_at", nullable=True),  # the report of its host that was read last
    Column("health", JSONB, nullable=False, server_default=_EMPTY),  # of members, as of that report
    Column("counted", JSONB, nullable=False, server_default=_EMPTY),  # counters, as of that report
    amount("sessions"),
    amount("received_bytes"),
    amount("sent_bytes"),
    instant("created_at"),
    UniqueConstraint("network_id", "name"),
    Index(None, "tenant_id"),
    Index(None, "node_id"),
    Index(None, "due_at", postgresql_where=text("due_at IS NOT NULL")),
)
