"""Knowledge bases, their documents, proofs of deletion; models say whether they write text or make vectors.

Revision: 0007, after: 0006. The statements are SQL files beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    folder = Path(__file__).parent
    for name in ("0007_tables.sql", "0007_knowledge.sql"):
        op.get_bind().exec_driver_sql((folder / name).read_text("utf-8").replace("%", "%%"))


def downgrade() -> None:
    raise NotImplementedError("documents and proofs would be lost; go back to a backup instead")
