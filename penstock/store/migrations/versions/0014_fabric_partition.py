"""Partitions of the InfiniBand fabric.

Revision: 0014, after: 0013. The statements are the SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = (Path(__file__).parent / "0014_fabric_partition.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    op.execute("DROP FUNCTION fabric_free_pkey()")
    op.drop_table("fabric_partition")
