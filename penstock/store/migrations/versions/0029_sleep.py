"""Nodes that sleep: whether a driver can turn a node off and on.

Revision: 0029, after: 0028.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE node ADD COLUMN power_switch BOOLEAN DEFAULT false NOT NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE node DROP COLUMN power_switch")
