"""Identities at OpenID providers; secrets of second factors are stored sealed from now on.

Rows from before are sealed when a factory with its key starts (``actions.totp.seal_stored``), which no migration
has: where there are some, the check holds for what is written from now on.

Revision: 0009, after: 0008.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("id", sa.Text),
        sa.Column("tenant_id", sa.Text, sa.ForeignKey("tenant.id", name="fk_identity_tenant_id")),
        sa.Column(
            "principal_id",
            sa.Text,
            sa.ForeignKey("principal.id", name="fk_identity_principal_id"),
            nullable=False,
        ),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("managed", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_identity"),
        sa.UniqueConstraint("issuer", "subject", name="uq_identity_issuer_subject"),
    )
    op.create_index("ix_identity_principal_id", "identity", ["principal_id"])
    op.execute("ALTER TABLE identity ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE identity FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant_wall ON identity USING ("
        "(SELECT current_setting('penstock.scope', true)) = '*' "
        "OR tenant_id = (SELECT current_setting('penstock.scope', true)))"
    )
    in_clear = op.get_bind().execute(sa.text("SELECT EXISTS (SELECT FROM totp)")).scalar_one()
    op.execute(
        "ALTER TABLE totp ADD CONSTRAINT ck_totp_sealed CHECK (left(secret, 3) = 'v1.')"
        + (" NOT VALID" if in_clear else "")
    )


def downgrade() -> None:
    op.drop_constraint("ck_totp_sealed", "totp")
    op.drop_table("identity")
