"""What knowledge bases count has a price, and is known by key.

Revision: 0021, after: 0020. What was made before keeps its promise: it has no price book and is not charged.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT set_config('penstock.scope', '*', true)")  # whoever migrates may not be a superuser
    op.add_column("document", sa.Column("chunks_kept", sa.Integer, nullable=False, server_default="0"))
    op.execute(
        "UPDATE document SET chunks_kept = COALESCE(chunks_total, 0) WHERE indexed_version IS NOT NULL"
    )
    op.add_column("knowledge_base", sa.Column("price_book_id", sa.Text, sa.ForeignKey("price_book.id")))
    op.add_column("knowledge_usage", sa.Column("key_id", sa.Text, nullable=False, server_default=""))
    op.add_column("knowledge_usage", sa.Column("service_id", sa.Text))
    op.add_column("knowledge_usage", sa.Column("item", sa.Text))
    op.add_column("knowledge_usage", sa.Column("price_book_id", sa.Text))
    op.execute(
        "UPDATE knowledge_usage u SET service_id = u.knowledge_base_id, "
        "item = COALESCE((SELECT b.model FROM knowledge_base b WHERE b.id = u.knowledge_base_id), '')"
    )
    op.alter_column("knowledge_usage", "service_id", nullable=False)
    op.alter_column("knowledge_usage", "item", nullable=False)
    op.drop_constraint("pk_knowledge_usage", "knowledge_usage")
    op.create_primary_key(
        "pk_knowledge_usage", "knowledge_usage", ["knowledge_base_id", "day", "meter", "key_id"]
    )


def downgrade() -> None:
    raise NotImplementedError("what was charged would be lost; go back to a backup instead")
