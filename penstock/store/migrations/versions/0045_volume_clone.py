"""What volumes began as.

Revision: 0045, after: 0044.
"""

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

_ADD = """
ALTER TABLE volume ADD COLUMN cloned_from TEXT, ADD COLUMN cloned_snapshot TEXT;
CREATE INDEX ix_volume_cloned_from ON volume (cloned_from) WHERE cloned_from IS NOT NULL
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_ADD)


def downgrade() -> None:
    op.drop_column("volume", "cloned_snapshot")
    op.drop_column("volume", "cloned_from")
