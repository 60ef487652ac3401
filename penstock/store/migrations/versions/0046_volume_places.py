"""A volume that goes to another host with its machine has two places for a while, one on each node.

Revision: 0046, after: 0045.
"""

from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

_INDEX = "DROP INDEX uq_allocation_volume_id; CREATE UNIQUE INDEX uq_allocation_volume_id ON allocation ({columns})"


def upgrade() -> None:
    op.execute(_INDEX.format(columns="volume_id, node_id"))


def downgrade() -> None:
    op.execute(_INDEX.format(columns="volume_id"))
