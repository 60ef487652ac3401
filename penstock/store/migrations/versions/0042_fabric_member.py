"""Nodes in partitions of the fabric, what became of a partition, nodes that are kept for one project.

Revision: 0042, after: 0041. The statements are the SQL file beside this one, frozen as released.
"""

from pathlib import Path

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    statements = (Path(__file__).parent / "0042_fabric_member.sql").read_text("utf-8")
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    op.execute("DROP TRIGGER allocation_changed ON allocation")
    op.execute(
        "CREATE TRIGGER allocation_changed BEFORE UPDATE OF wanted, generation, config ON allocation "
        "FOR EACH ROW EXECUTE FUNCTION stamp_change()"
    )
    op.drop_table("fabric_member")
    op.execute("DELETE FROM allocation WHERE fabric_partition_id IS NOT NULL")
    op.execute("ALTER TABLE allocation DROP COLUMN fabric_partition_id, DROP COLUMN isolating")
    op.execute("ALTER TABLE node DROP COLUMN kept_for")
    for name in ("wanted", "automatic", "state", "reason", "attempts", "repairs", "due_at"):
        op.drop_column("fabric_partition", name)
