"""The time that snapshots are charged for.

Revision: 0048, after: 0047. A snapshot that is there already is charged from when the engine looks next, by the newest
price book: nothing, if that has no price of snapshots.
"""

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

_TABLE = """
ALTER TABLE vm_snapshot ADD COLUMN noted BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE volume_snapshot ADD COLUMN noted BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX ix_vm_snapshot_new ON vm_snapshot (service_id) WHERE NOT noted;
CREATE INDEX ix_volume_snapshot_new ON volume_snapshot (volume_id) WHERE NOT noted;
CREATE TABLE snapshot_time (
    snapshot_id TEXT NOT NULL,
    start_at TIMESTAMP WITH TIME ZONE NOT NULL,
    end_at TIMESTAMP WITH TIME ZONE,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    price_book_id TEXT NOT NULL,
    of_id TEXT NOT NULL,
    driver TEXT NOT NULL,
    size_mib INTEGER NOT NULL,
    CONSTRAINT pk_snapshot_time PRIMARY KEY (snapshot_id)
);
CREATE INDEX ix_snapshot_time_tenant_id_end_at ON snapshot_time (tenant_id, end_at);
CREATE INDEX ix_snapshot_time_open ON snapshot_time (of_id) WHERE end_at IS NULL;
ALTER TABLE snapshot_time ENABLE ROW LEVEL SECURITY;
ALTER TABLE snapshot_time FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON snapshot_time USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)))
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_TABLE)


def downgrade() -> None:
    raise NotImplementedError("what was charged would be lost; go back to a backup instead")
