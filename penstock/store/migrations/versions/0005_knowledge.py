"""Models say whether they write text or make vectors.

Revision: 0005, after: 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("model", sa.Column("kind", sa.Text, nullable=False, server_default="generation"))
    op.add_column("model", sa.Column("dimensions", sa.Integer))


def downgrade() -> None:
    op.drop_column("model", "dimensions")
    op.drop_column("model", "kind")
