"""Load balancers, and allocations that carry them.

Revision: 0034, after: 0033. The statements are the SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = (Path(__file__).parent / "0034_load_balancer.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    raise NotImplementedError(
        "hosts would go on with load balancers that nobody knows; go back to a backup instead"
    )
