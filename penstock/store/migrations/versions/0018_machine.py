"""Virtual machines: keys, images, machines, snapshots, consoles; what drivers say of an allocation.

Revision: 0018, after: 0017. The statements are the SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = (Path(__file__).parent / "0018_machine.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    raise NotImplementedError("machines would be forgotten while they run; go back to a backup instead")
