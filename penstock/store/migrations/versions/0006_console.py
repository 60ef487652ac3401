"""What the console needs: sessions that end when idle, second factors, the history of a device by index.

Revision: 0006, after: 0005.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_segment_device_id_id", "segment", ["device_id", "id"])
    op.add_column("api_key", sa.Column("idle_until", sa.DateTime(timezone=True)))
    op.add_column("api_key", sa.Column("proved_at", sa.DateTime(timezone=True)))
    op.create_table(
        "totp",
        sa.Column("principal_id", sa.Text, sa.ForeignKey("principal.id", name="fk_totp_principal_id")),
        sa.Column("tenant_id", sa.Text, sa.ForeignKey("tenant.id", name="fk_totp_tenant_id")),
        sa.Column("secret", sa.Text, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("recovery_sha256", ARRAY(sa.Text), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("principal_id", name="pk_totp"),
    )
    op.execute("ALTER TABLE totp ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE totp FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant_wall ON totp USING ("
        "(SELECT current_setting('penstock.scope', true)) = '*' "
        "OR tenant_id = (SELECT current_setting('penstock.scope', true)))"
    )


def downgrade() -> None:
    op.drop_table("totp")
    op.drop_column("api_key", "proved_at")
    op.drop_column("api_key", "idle_until")
    op.drop_index("ix_segment_device_id_id", "segment")
