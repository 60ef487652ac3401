"""Functions that give out addresses of pools.

Revision: 0013, after: 0012. The statements are the SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = (Path(__file__).parent / "0013_address_pool.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    op.execute("DROP FUNCTION pool_free_address(text)")
    op.execute("DROP FUNCTION pool_taken()")
