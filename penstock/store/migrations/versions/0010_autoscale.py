"""Endpoints whose replicas follow the load: what is wanted, what gateways say, what the autoscaler remembers.

Revision: 0010, after: 0009.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.add_column("service", sa.Column("replicas_wanted", sa.Integer))
    op.add_column("allocation", _instant("draining_at", nullable=True))
    op.create_table(
        "autoscale",
        sa.Column("service_id", sa.Text, sa.ForeignKey("service.id", name="fk_autoscale_service_id")),
        sa.Column("tenant_id", sa.Text, nullable=False),
        _instant("busy_at"),
        _instant("needed_at"),
        _instant("up_at", nullable=True),
        _instant("demanded_until", nullable=True),
        sa.Column("step", JSONB),
        _instant("stepped_at", nullable=True),
        _instant("due_at", nullable=True),
        sa.PrimaryKeyConstraint("service_id", name="pk_autoscale"),
    )
    op.create_index(
        "ix_autoscale_due_at", "autoscale", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index("ix_autoscale_tenant_id", "autoscale", ["tenant_id"])
    op.create_table(
        "gateway_seen",
        sa.Column("gateway", sa.Text),
        _instant("seen_at"),
        sa.PrimaryKeyConstraint("gateway", name="pk_gateway_seen"),
    )
    op.create_table(
        "gateway_signal",
        sa.Column("service_id", sa.Text),
        sa.Column("gateway", sa.Text),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("waiting", sa.Integer, nullable=False),
        sa.Column("in_flight", sa.Integer, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("requests", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("ttft_us", sa.BigInteger),
        sa.Column("upstreams", ARRAY(sa.Text), nullable=False),
        _instant("at"),
        sa.PrimaryKeyConstraint("service_id", "gateway", name="pk_gateway_signal"),
    )
    op.create_index("ix_gateway_signal_tenant_id", "gateway_signal", ["tenant_id"])
    for name in ("autoscale", "gateway_signal"):
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant_wall ON {name} USING ("
            "(SELECT current_setting('penstock.scope', true)) = '*' "
            "OR tenant_id = (SELECT current_setting('penstock.scope', true)))"
        )


def downgrade() -> None:
    for name in ("gateway_signal", "gateway_seen", "autoscale"):
        op.drop_table(name)
    op.drop_column("allocation", "draining_at")
    op.drop_column("service", "replicas_wanted")
