"""A release may be asked for a moment ahead, so that it can be taken back.

Revision: 0027, after: 0026.
"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("service", sa.Column("release_at", sa.DateTime(timezone=True)))
    op.create_index(
        "ix_service_release_at",
        "service",
        ["release_at"],
        postgresql_where=sa.text(
            "release_at IS NOT NULL AND wanted = 'running' AND state NOT IN ('released', 'failed')"
        ),
    )


def downgrade() -> None:
    op.drop_column("service", "release_at")
