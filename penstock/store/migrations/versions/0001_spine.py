"""The spine: every table of the first release, the application role, row-level security.

Revision: 0001, after: nothing. The statements are SQL files beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    folder = Path(__file__).parent
    for name in ("0001_tables.sql", "0001_security.sql"):
        op.get_bind().exec_driver_sql((folder / name).read_text("utf-8").replace("%", "%%"))


def downgrade() -> None:
    raise NotImplementedError("the first migration has nothing to go back to; drop the database instead")
