"""Images that are made of machines' disks.

Revision: 0039, after: 0038.
"""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_COLUMNS = """
ALTER TABLE image
    ADD COLUMN from_service_id TEXT,
    ADD COLUMN from_snapshot_id TEXT,
    ADD COLUMN temporary BOOLEAN DEFAULT false NOT NULL;
CREATE INDEX ix_image_from_service_id ON image (from_service_id) WHERE from_service_id IS NOT NULL
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_COLUMNS)


def downgrade() -> None:
    raise NotImplementedError("what machines were cloned from would be lost; go back to a backup instead")
