"""The time that volumes are charged for, by the sizes that they had.

Revision: 0040, after: 0039. A volume that is there already is charged from now on.
"""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE volume_time (
    volume_id TEXT NOT NULL,
    start_at TIMESTAMP WITH TIME ZONE NOT NULL,
    end_at TIMESTAMP WITH TIME ZONE,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    price_book_id TEXT NOT NULL,
    driver TEXT NOT NULL,
    size_gib INTEGER NOT NULL,
    CONSTRAINT pk_volume_time PRIMARY KEY (volume_id, start_at)
);
CREATE INDEX ix_volume_time_tenant_id_end_at ON volume_time (tenant_id, end_at);
CREATE UNIQUE INDEX uq_volume_time_open ON volume_time (volume_id) WHERE end_at IS NULL;
INSERT INTO volume_time (volume_id, start_at, tenant_id, project_id, price_book_id, driver, size_gib)
SELECT v.id, now(), v.tenant_id, v.project_id, b.id, v.driver, v.size_gib
FROM volume v CROSS JOIN (SELECT id FROM price_book ORDER BY version DESC LIMIT 1) AS b WHERE v.wanted = 'present';
ALTER TABLE volume_time ENABLE ROW LEVEL SECURITY;
ALTER TABLE volume_time FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_wall ON volume_time USING (
    (SELECT current_setting('penstock.scope', true)) = '*'
    OR tenant_id = (SELECT current_setting('penstock.scope', true)))
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_TABLE)


def downgrade() -> None:
    raise NotImplementedError("what was charged would be lost; go back to a backup instead")
