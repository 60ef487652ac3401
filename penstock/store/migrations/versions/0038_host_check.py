"""How well hosts are.

Revision: 0038, after: 0037.
"""

from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE host_check (
    node_id TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    message TEXT NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_host_check PRIMARY KEY (node_id, name),
    CONSTRAINT fk_host_check_node_id FOREIGN KEY(node_id) REFERENCES node (id)
)
"""


def upgrade() -> None:
    op.execute(_TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE host_check")
