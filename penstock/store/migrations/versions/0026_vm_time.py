"""The time that machines are charged for, by the shapes that they had.

Revision: 0026, after: 0025. A machine that runs already is charged from its next look on.
"""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE vm_time (
    service_id TEXT NOT NULL,
    start_at TIMESTAMP WITH TIME ZONE NOT NULL,
    end_at TIMESTAMP WITH TIME ZONE,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    price_book_id TEXT NOT NULL,
    architecture TEXT NOT NULL,
    vcpus INTEGER NOT NULL,
    memory_mib INTEGER NOT NULL,
    disk_gib INTEGER NOT NULL,
    simulated BOOLEAN NOT NULL,
    CONSTRAINT pk_vm_time PRIMARY KEY (service_id, start_at),
    CONSTRAINT fk_vm_time_service_id FOREIGN KEY(service_id) REFERENCES vm (service_id)
);
CREATE INDEX ix_vm_time_tenant_id_end_at ON vm_time (tenant_id, end_at);
CREATE UNIQUE INDEX uq_vm_time_open ON vm_time (service_id) WHERE end_at IS NULL;
ALTER TABLE vm_time ENABLE ROW LEVEL SECURITY;
ALTER TABLE vm_time FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON vm_time USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)))
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_TABLE)


def downgrade() -> None:
    raise NotImplementedError("what was charged would be lost; go back to a backup instead")
