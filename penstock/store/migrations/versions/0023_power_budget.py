"""Power budgets: limits on what is held in a device, node, rack, row or site, counted as claims come and go.

Revision: 0023, after: 0022. The statements are the SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = (Path(__file__).parent / "0023_power_budget.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    raise NotImplementedError("budgets would be lost; go back to a backup instead")
