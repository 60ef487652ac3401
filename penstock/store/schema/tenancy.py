"""Tenants, projects, principals, second factors, role bindings, keys, quotas.

Growth: a few rows per member and key; sessions are keys and go a day after their end.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from penstock.store.schema.base import id_column, instant, metadata

tenant = Table(
    "tenant",
    metadata,
    id_column(),
    Column("name", Text, nullable=False, unique=True),
    Column("description", Text, nullable=False, server_default=""),
    Column("state", Text, nullable=False),  # active | suspended | deleted
    instant("created_at"),
)

project = Table(
    "project",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("state", Text, nullable=False),  # active | deleted
    instant("created_at"),
    Index("uq_project_name", "tenant_id", "name", unique=True, postgresql_where=text("state <> 'deleted'")),
)

# Users and service accounts. Operators belong to no tenant.
principal = Table(
    "principal",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id")),
    Column("kind", Text, nullable=False),  # user | service_account
    Column("name", Text, nullable=False),  # a user's e-mail address, unique in the factory
    Column("password_hash", Text),
    instant("disabled_at", nullable=True),
    instant("created_at"),
    Index("uq_principal_user_name", "name", unique=True, postgresql_where=text("kind = 'user'")),
    Index(
        "uq_principal_service_account_name",
        "tenant_id",
        "name",
        unique=True,
        postgresql_where=text("kind = 'service_account'"),
    ),
)

# A user's second factor: a time-based one-time password (RFC 6238). Unconfirmed ones count for nothing yet.
totp = Table(
    "totp",
    metadata,
    Column("principal_id", Text, ForeignKey("principal.id"), primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenant.id")),
    Column("secret", Text, nullable=False),  # sealed by the vault (drivers/pki/vault.py)
    Column("last_step", BigInteger, nullable=False, server_default=text("0")),  # no code works twice
    Column("recovery_sha256", ARRAY(Text), nullable=False),  # one-time codes for a lost device
    instant("confirmed_at", nullable=True),
    instant("created_at"),
    CheckConstraint("left(secret, 3) = 'v1.'", name="sealed"),
)

# Who a person is at an OpenID provider. ``subject`` is the provider's own and for good; an e-mail address decides nothing.
identity = Table(
    "identity",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id")),
    Column("principal_id", Text, ForeignKey("principal.id"), nullable=False),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("managed", Boolean, nullable=False),  # made by a sign-in: its roles follow the provider's groups
    instant("created_at"),
    instant("used_at", nullable=True),
    UniqueConstraint("issuer", "subject"),
    Index(None, "principal_id"),
)

role_binding = Table(
    "role_binding",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id")),
    Column("project_id", Text, ForeignKey("project.id")),
    Column("principal_id", Text, ForeignKey("principal.id"), nullable=False),
    Column("role", Text, nullable=False),
    instant("created_at"),
    Index(None, "principal_id"),
    Index(None, "tenant_id"),
)

api_key = Table(
    "api_key",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id")),
    Column("project_id", Text, ForeignKey("project.id")),
    Column("principal_id", Text, ForeignKey("principal.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),
    Column("secret_sha256", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("session", Boolean, nullable=False, server_default=text("false")),
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", BigInteger),
    instant("created_at"),
    instant("expires_at", nullable=True),
    instant("revoked_at", nullable=True),
    instant("idle_until", nullable=True),  # a session of the console ends unless it is used before
    instant("proved_at", nullable=True),  # when the session's owner last gave the password
    Index(None, "tenant_id"),
    Index(None, "principal_id"),
)

quota = Table(
    "quota",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id")),
    Column("dimension", Text, nullable=False),
    Column("limit_amount", BigInteger, nullable=False),
    Column("guaranteed_amount", BigInteger),  # NULL: no share of this is guaranteed
    instant("created_at"),
    UniqueConstraint("tenant_id", "project_id", "dimension", postgresql_nulls_not_distinct=True),
)

# What is held now, one row beside each quota of a held measure; project_id '' is the tenant's total. Taken in
# the order's own transaction, so that check and insert are one; the row lock is what keeps 64 concurrent
# orders honest. Without a quota there is no row and nothing to queue for: see store/quota.py.
quota_use = Table(
    "quota_use",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenant.id"), primary_key=True),
    Column("project_id", Text, primary_key=True),
    Column("dimension", Text, primary_key=True),
    Column("used", BigInteger, nullable=False),
)

# What a tenant, project, key or endpoint may take at the token gateways; NULL: no limit.
rate_limit = Table(
    "rate_limit",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text),  # of a project or an endpoint
    Column("subject", Text, nullable=False),  # tenant | project | key | endpoint
    Column("subject_id", Text, nullable=False, unique=True),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("tokens_per_day", BigInteger),
    Column("microeur_per_month", BigInteger),
    Column("priority", Text),
    instant("created_at"),
    Index(None, "tenant_id"),
)

# Growth: a handful of rows per project.
secret = Table(
    "secret",
    metadata,
    id_column(),
    Column("tenant_id", Text, ForeignKey("tenant.id"), nullable=False),
    Column("project_id", Text, ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("sealed", Text, nullable=False),  # by drivers/pki/vault, for this row alone
    Column("created_by", Text, nullable=False),
    instant("created_at"),
    Column("updated_by", Text, nullable=False),
    instant("updated_at"),
    Index("uq_secret_name", "project_id", "name", unique=True),
)
