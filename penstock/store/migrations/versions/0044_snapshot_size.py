"""What snapshots count for against quotas; those of machines that are gone go.

Revision: 0044, after: 0043. A snapshot that is there counts for what its disk or volume has now.
"""

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

_FILL = """
DELETE FROM vm_snapshot p USING service s WHERE s.id = p.service_id AND s.state IN ('released', 'failed');
ALTER TABLE vm_snapshot ADD COLUMN size_gib INTEGER;
UPDATE vm_snapshot p SET size_gib = v.disk_gib FROM vm v WHERE v.service_id = p.service_id;
ALTER TABLE vm_snapshot ALTER COLUMN size_gib SET NOT NULL;
ALTER TABLE volume_snapshot ADD COLUMN size_gib INTEGER;
UPDATE volume_snapshot p SET size_gib = v.size_gib FROM volume v WHERE v.id = p.volume_id;
ALTER TABLE volume_snapshot ALTER COLUMN size_gib SET NOT NULL
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_FILL)


def downgrade() -> None:
    op.drop_column("volume_snapshot", "size_gib")
    op.drop_column("vm_snapshot", "size_gib")
