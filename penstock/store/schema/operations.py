"""Events, audit trail and settings.

Growth: some five events per service, one audit row per change; both are kept 400 days by default.
"""

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY

from penstock.store.schema.base import amount, changed_column, document, instant, metadata

event = Table(
    "event",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    instant("at"),
    Column("tenant_id", Text),
    Column("project_id", Text),
    Column("kind", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    document("data"),
    # Readers stop before transactions that may still commit a smaller id; see store/event.py.
    changed_column(),
    Index(None, "changed_xid", "id"),
    Index(None, "tenant_id", "changed_xid", "id"),
    Index(None, "subject_id", "changed_xid", "id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    instant("at"),
    Column("tenant_id", Text),
    Column("principal_id", Text, nullable=False),
    Column("key_id", Text),
    Column("action", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # done | refused:<code>
    Column("source_address", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    document("detail"),
    Index(None, "tenant_id", "id"),
)

setting = Table(
    "setting",
    metadata,
    Column("name", Text, primary_key=True),
    document("value"),
)

# Gateways that report on endpoints, and what each says of each; a row per gateway process and elastic endpoint.
gateway_seen = Table(
    "gateway_seen",
    metadata,
    Column("gateway", Text, primary_key=True),
    instant("seen_at"),
)

gateway_signal = Table(
    "gateway_signal",
    metadata,
    Column("service_id", Text, primary_key=True),
    Column("gateway", Text, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False),
    amount("tokens"),
    amount("requests"),  # that ended and were not looked at yet
    Column("ttft_us", BigInteger),
    Column("upstreams", ARRAY(Text), nullable=False),  # replicas that it asks or still waits for
    instant("at"),
    Index(None, "tenant_id"),
)
