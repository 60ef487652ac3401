"""What hosts tell of packets. Growth: at most 10,000 flows a network, 7 days; a row a plugged port. Never money."""

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import INET

from penstock.store.schema.base import instant, metadata

flow = Table(
    "flow",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("network_id", Text, nullable=False),
    Column("port_id", Text),  # where it was judged; NULL: at the edge of a subnet, or the port is gone
    instant("at"),
    Column("verdict", Text, nullable=False),  # accept | drop
    Column("rule", Text, nullable=False),
    Column("protocol", Text, nullable=False),
    Column("source", INET),
    Column("target", INET),
    Column("source_port", Integer),
    Column("target_port", Integer),
    Index(None, "network_id", "id"),
    Index(None, "tenant_id", "id"),
    Index(None, "at"),
)

port_counter = Table(
    "port_counter",
    metadata,
    Column("port_id", Text, primary_key=True),
    Column("received_bytes", BigInteger, nullable=False),
    Column("received_packets", BigInteger, nullable=False),
    Column("received_drops", BigInteger, nullable=False),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("sent_packets", BigInteger, nullable=False),
    Column("sent_drops", BigInteger, nullable=False),
    instant("counted_at"),
)
