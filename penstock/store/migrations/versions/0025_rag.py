"""Services of kind rag bring a knowledge base and run once it has answered a first question.

Revision: 0025, after: 0024.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("knowledge_base", sa.Column("owner_id", sa.Text, sa.ForeignKey("service.id")))
    op.add_column("knowledge_base", sa.Column("proved_at", sa.DateTime(timezone=True)))
    op.create_unique_constraint("uq_knowledge_base_owner_id", "knowledge_base", ["owner_id"])


def downgrade() -> None:
    raise NotImplementedError("services would lose their knowledge bases; go back to a backup instead")
