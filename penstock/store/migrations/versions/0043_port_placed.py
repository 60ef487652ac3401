"""Ports know from which revision of their network on hosts know of their place.

Hosts' numbers (generations) were counted apart from revisions until now. They are behind them from here on, and no port
that waited at that moment counts as placed before the next time that its network is compiled.

Revision: 0043, after: 0042.
"""

from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

_UP = """
ALTER TABLE port ADD COLUMN placed_revision BIGINT DEFAULT 0 NOT NULL;
UPDATE network n SET
    revision = GREATEST(n.revision, t.told) + 1,
    applied_revision = CASE WHEN n.applied_revision = n.revision THEN GREATEST(n.revision, t.told) + 1
        ELSE n.applied_revision END
FROM (
    SELECT w.id, COALESCE(max(a.generation), 0) AS told
    FROM network w LEFT JOIN allocation a ON a.network_id = w.id GROUP BY w.id
) t WHERE t.id = n.id;
UPDATE port p SET placed_revision = n.revision FROM network n WHERE n.id = p.network_id;
"""


def upgrade() -> None:
    op.execute(_UP)


def downgrade() -> None:
    op.execute("ALTER TABLE port DROP COLUMN placed_revision")
