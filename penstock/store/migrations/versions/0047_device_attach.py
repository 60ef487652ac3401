"""How a machine gets a device: by VFIO, as a mediated device, or by a stand-in that is called simulated.

Revision: 0047, after: 0046.
"""

from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE device ADD COLUMN attach text NOT NULL DEFAULT 'vfio', ADD COLUMN mdev_type text")


def downgrade() -> None:
    op.execute("ALTER TABLE device DROP COLUMN attach, DROP COLUMN mdev_type")
