"""What all tables share: naming, column helpers, the list of tenant tables."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Tables whose rows belong to a tenant: the database itself hides other tenants' rows. A NULL tenant_id is
# a row of the operator's, visible to the system scope only.
TENANT_TABLES = (
    "project",
    "principal",
    "totp",
    "identity",
    "role_binding",
    "api_key",
    "quota",
    "quota_use",
    "service",
    "claim",
    "allocation",
    "decision",
    "autoscale",
    "objective",
    "objective_minute",
    "rate_limit",
    "gateway_signal",
    "segment",
    "token_usage",
    "invoice",
    "invoice_line",
    "event",
    "audit",
    "knowledge_base",
    "document",
    "document_version",
    "deletion_proof",
    "knowledge_usage",
    "network",
    "subnet",
    "port",
    "security_group",
    "security_rule",
    "security_binding",
    "floating_address",
    "dns_record",
    "network_route",
    "network_peering",
    "flow",
    "public_record",
    "fabric_partition",
    "fabric_member",
    "secret",
    "file",
    "batch",
    "batch_line",
    "model_approval",
    "ssh_key",
    "image",
    "vm",
    "vm_snapshot",
    "vm_time",
    "volume",
    "volume_snapshot",
    "volume_usage",
    "volume_time",
    "snapshot_time",
    "vm_console",
    "console_session",
    "reservation",
    "certificate",
    "certificate_authority",
    "certificate_serial",
    "load_balancer",
)


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id; stamps rows so that readers can ask "what changed since"."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the SQL type name."""
        return "xid8"


def id_column() -> Column[str]:
    """Return the primary key of a noun with a typed id."""
    return Column("id", Text, primary_key=True)


def instant(name: str, *, nullable: bool = False) -> Column[Any]:
    """Return a column for an instant, with time zone, in microseconds."""
    return Column(name, DateTime(timezone=True), nullable=nullable)


def document(name: str) -> Column[Any]:
    """Return a JSON column that is never NULL."""
    return Column(name, JSONB, nullable=False)


def amount(name: str, *, default: int = 0) -> Column[int]:
    """Return a 64-bit count, size or amount of money."""
    return Column(name, BigInteger, nullable=False, server_default=text(str(default)))


def changed_column() -> Column[Any]:
    """Return the transaction id of the last change, kept by a trigger (see migrations)."""
    return Column("changed_xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()"))
