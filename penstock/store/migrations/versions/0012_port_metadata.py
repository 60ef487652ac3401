"""Ports say what their guests may read of themselves.

Revision: 0012, after: 0011.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    empty = sa.text("'{}'::jsonb")
    op.add_column("port", sa.Column("metadata", JSONB, nullable=False, server_default=empty))


def downgrade() -> None:
    op.drop_column("port", "metadata")
