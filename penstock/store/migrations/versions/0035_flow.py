"""Flows of networks and counters of ports, and which flows a network keeps.

Revision: 0035, after: 0034.
"""

from pathlib import Path

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("DROP TABLE flow; DROP TABLE port_counter; ALTER TABLE network DROP COLUMN flow_log")
