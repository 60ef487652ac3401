"""Weights of models: what files a model is made of, and which nodes hold them.

Revision: 0022, after: 0021.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A model that was added before has no list of files: its engines go on reading its folder.
    op.add_column("model", sa.Column("files", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")))
    op.add_column("model", sa.Column("url", sa.Text, nullable=False, server_default=""))
    op.create_index("ix_model_sha256", "model", ["sha256"])
    op.create_table(
        "weights",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("node_id", sa.Text, sa.ForeignKey("node.id", name="fk_weights_node_id"), nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False, server_default=""),
        sa.Column("size_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("held_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("in_place", sa.Boolean, nullable=False),
        sa.Column("in_use", sa.Boolean, nullable=False),
        sa.Column("unwanted", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_weights"),
        sa.UniqueConstraint("node_id", "sha256", name="uq_weights_node_id_sha256"),
    )
    op.create_index("ix_weights_sha256", "weights", ["sha256"])


def downgrade() -> None:
    op.drop_table("weights")
    op.drop_index("ix_model_sha256", "model")
    op.drop_column("model", "url")
    op.drop_column("model", "files")
