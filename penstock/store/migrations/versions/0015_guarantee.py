"""Quotas may guarantee a share: what a tenant or project gets back within a bound.

Revision: 0015, after: 0014.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("quota", sa.Column("guaranteed_amount", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("quota", "guaranteed_amount")
