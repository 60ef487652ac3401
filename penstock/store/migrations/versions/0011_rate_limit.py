"""Limits of token traffic for tenants, projects, keys and endpoints; what endpoints promise and what they kept.

Revision: 0011, after: 0010.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _instant(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _amount(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    op.create_table(
        "rate_limit",
        sa.Column("id", sa.Text),
        sa.Column(
            "tenant_id", sa.Text, sa.ForeignKey("tenant.id", name="fk_rate_limit_tenant_id"), nullable=False
        ),
        sa.Column("project_id", sa.Text),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("subject_id", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.BigInteger)
            for name in ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "microeur_per_month")
        ),
        sa.Column("priority", sa.Text),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_rate_limit"),
        sa.UniqueConstraint("subject_id", name="uq_rate_limit_subject_id"),
    )
    op.create_index("ix_rate_limit_tenant_id", "rate_limit", ["tenant_id"])
    op.create_table(
        "objective",
        sa.Column("service_id", sa.Text, sa.ForeignKey("service.id", name="fk_objective_service_id")),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("ttft_ms", sa.Integer),
        sa.Column("token_ms", sa.Integer),
        sa.Column("percent_ppm", sa.Integer, nullable=False),
        sa.Column("availability_ppm", sa.Integer),
        _instant("created_at"),
        sa.PrimaryKeyConstraint("service_id", name="pk_objective"),
    )
    op.create_index("ix_objective_tenant_id", "objective", ["tenant_id"])
    op.create_table(
        "objective_minute",
        sa.Column("service_id", sa.Text),
        sa.Column("minute", sa.DateTime(timezone=True)),
        sa.Column("tenant_id", sa.Text, nullable=False),
        *(_amount(name) for name in ("requests", "missed", "late", "slow", "failed")),
        sa.PrimaryKeyConstraint("service_id", "minute", name="pk_objective_minute"),
    )
    op.create_index("ix_objective_minute_minute", "objective_minute", ["minute"])
    op.create_index("ix_objective_minute_tenant_id", "objective_minute", ["tenant_id"])
    for name in ("rate_limit", "objective", "objective_minute"):
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant_wall ON {name} USING ("
            "(SELECT current_setting('penstock.scope', true)) = '*' "
            "OR tenant_id = (SELECT current_setting('penstock.scope', true)))"
        )


def downgrade() -> None:
    for name in ("objective_minute", "objective", "rate_limit"):
        op.drop_table(name)
