"""Full-text search of knowledge bases: candidates by words and pairs of words, scored as in BM25.

Revision: 0016, after: 0015. The statements are the SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = Path(__file__).with_suffix(".sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))


def downgrade() -> None:
    raise NotImplementedError(
        "the functions of 0007 find less in large knowledge bases; go back to a backup instead"
    )
