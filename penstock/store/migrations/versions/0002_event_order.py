"""Events are read by (transaction id, id), see store/event.py: index them that way.

Revision: 0002, after: 0001.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_event_tenant_id_id", "event")
    op.drop_index("ix_event_subject_id_id", "event")
    op.create_index("ix_event_changed_xid_id", "event", ["changed_xid", "id"])
    op.create_index("ix_event_tenant_id_changed_xid_id", "event", ["tenant_id", "changed_xid", "id"])
    op.create_index("ix_event_subject_id_changed_xid_id", "event", ["subject_id", "changed_xid", "id"])


def downgrade() -> None:
    for name in ("changed_xid_id", "tenant_id_changed_xid_id", "subject_id_changed_xid_id"):
        op.drop_index(f"ix_event_{name}", "event")
    op.create_index("ix_event_tenant_id_id", "event", ["tenant_id", "id"])
    op.create_index("ix_event_subject_id_id", "event", ["subject_id", "id"])
