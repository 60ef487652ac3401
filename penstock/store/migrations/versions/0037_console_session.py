"""Sessions at consoles of machines.

Revision: 0037, after: 0036.
"""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE console_session (
    id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    allocation_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
    seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    attached_at TIMESTAMP WITH TIME ZONE,
    closed_at TIMESTAMP WITH TIME ZONE,
    reason TEXT,
    typed BYTEA DEFAULT '' NOT NULL,
    typed_bytes BIGINT DEFAULT 0 NOT NULL,
    shown_bytes BIGINT DEFAULT 0 NOT NULL,
    CONSTRAINT pk_console_session PRIMARY KEY (id),
    CONSTRAINT fk_console_session_service_id FOREIGN KEY(service_id) REFERENCES vm (service_id)
);
CREATE INDEX ix_console_session_tenant_id ON console_session (tenant_id);
CREATE INDEX ix_console_session_service_id ON console_session (service_id);
CREATE INDEX ix_console_session_open ON console_session (agent_id) WHERE closed_at IS NULL;
ALTER TABLE console_session ENABLE ROW LEVEL SECURITY;
ALTER TABLE console_session FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON console_session USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)));
"""


def upgrade() -> None:
    op.execute(_TABLE)


def downgrade() -> None:
    op.execute("DROP TABLE console_session")
