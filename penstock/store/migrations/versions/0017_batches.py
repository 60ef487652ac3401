"""Secrets of projects, files, batches; models with licence, origin, approval and adapters.

Revision: 0017, after: 0016. The statements are the SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = (Path(__file__).parent / "0017_batches.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    raise NotImplementedError("secrets, files and batches would be lost; go back to a backup instead")
