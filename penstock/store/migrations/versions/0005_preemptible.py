"""Claims that yield: which slices of a device they hold, and to which order a service yields.

Revision: 0005, after: 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("device", sa.Column("yielding_mask", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("claim", sa.Column("preemptible", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("service", sa.Column("yields_to", sa.Text))
    op.create_index(
        "ix_claim_yielding",
        "claim",
        ["held_from"],
        postgresql_where=sa.text("preemptible AND released_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_claim_yielding", "claim")
    op.drop_column("service", "yields_to")
    op.drop_column("claim", "preemptible")
    op.drop_column("device", "yielding_mask")
