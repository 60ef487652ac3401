"""Lines of hosts' logs.

Revision: 0041, after: 0040.
"""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE host_log (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    node_id TEXT NOT NULL,
    source TEXT NOT NULL,
    run TEXT NOT NULL,
    number BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    taken_at TIMESTAMP WITH TIME ZONE NOT NULL,
    level TEXT NOT NULL,
    text TEXT NOT NULL,
    CONSTRAINT pk_host_log PRIMARY KEY (id),
    CONSTRAINT fk_host_log_node_id FOREIGN KEY(node_id) REFERENCES node (id) ON DELETE CASCADE,
    CONSTRAINT uq_host_log_node_id_source_run_number UNIQUE (node_id, source, run, number)
);
CREATE INDEX ix_host_log_node_id_source_id ON host_log (node_id, source, id);
CREATE INDEX ix_host_log_taken_at ON host_log (taken_at);
"""


def upgrade() -> None:
    op.execute(_TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE host_log")
