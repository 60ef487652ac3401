"""Agents say where their relay is reached, and the factory notes where they call from.

Revision: 0004, after: 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("agent", sa.Column("source_address", sa.Text))
    op.add_column("agent", sa.Column("serve_host", sa.Text))


def downgrade() -> None:
    op.drop_column("agent", "serve_host")
    op.drop_column("agent", "source_address")
