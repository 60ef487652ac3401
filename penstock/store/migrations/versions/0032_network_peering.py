"""Peerings: whose project was asked, and when it accepted. Nothing made rows of this table before.

Revision: 0032, after: 0031.
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_TO_PROJECT = (
    "CONSTRAINT fk_network_peering_peer_project_id FOREIGN KEY (peer_project_id) REFERENCES project (id)"
)
_UP = (
    "ALTER TABLE network_peering ADD COLUMN peer_project_id TEXT NOT NULL",
    f"ALTER TABLE network_peering ADD {_TO_PROJECT}",
    "ALTER TABLE network_peering ADD COLUMN accepted_at TIMESTAMP WITH TIME ZONE",
    "ALTER TABLE network_peering ADD CONSTRAINT uq_network_peering_network_id_name UNIQUE (network_id, name)",
    "CREATE INDEX ix_network_peering_peer_network_id ON network_peering (peer_network_id)",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP INDEX ix_network_peering_peer_network_id")
    op.execute("ALTER TABLE network_peering DROP CONSTRAINT uq_network_peering_network_id_name")
    for column in ("accepted_at", "peer_project_id"):
        op.execute(f"ALTER TABLE network_peering DROP COLUMN {column}")
