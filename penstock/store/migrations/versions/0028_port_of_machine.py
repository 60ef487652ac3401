"""Ports that an order of a machine made go with that machine.

Revision: 0028, after: 0027.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "port", sa.Column("goes_with_machine", sa.Boolean, nullable=False, server_default=sa.text("false"))
    )


def downgrade() -> None:
    op.drop_column("port", "goes_with_machine")
