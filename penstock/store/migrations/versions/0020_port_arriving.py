"""Ports may be prepared on a second node before what is behind them goes there.

Revision: 0020, after: 0019.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("port", sa.Column("arriving_node_id", sa.Text))
    op.create_foreign_key("fk_port_arriving_node_id", "port", "node", ["arriving_node_id"], ["id"])
    op.create_index("ix_port_arriving_node_id", "port", ["arriving_node_id"])


def downgrade() -> None:
    op.drop_column("port", "arriving_node_id")
