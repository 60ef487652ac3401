"""Events, audit trail and settings.

Growth: some five events per service, one audit row per change; both are kept 400 days by default.
"""

from sqlalchemy import BigInteger, Column, Identity, Index, Table, Text

from penstock.store.schema.base import changed_column, document, instant, metadata

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
