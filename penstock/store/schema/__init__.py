"""Every table, as SQLAlchemy Core metadata; one file per group of nouns.

Importing this package registers all tables on ``metadata``. ``TENANT_TABLES`` names the tables that carry
row-level security (see ``store/migrations`` and ADR 0002).
"""

from penstock.store.schema.base import TENANT_TABLES, metadata
from penstock.store.schema.commerce import decision, model, offer, price, price_book, service
from penstock.store.schema.infrastructure import (
    agent,
    allocation,
    claim,
    device,
    device_class,
    join_token,
    node,
    power_feed,
    rack,
    site,
)
from penstock.store.schema.knowledge import (
    deletion_proof,
    document,
    document_version,
    knowledge_base,
    knowledge_usage,
)
from penstock.store.schema.ledger import invoice, invoice_line, segment, token_usage
from penstock.store.schema.network import (
    address_pool,
    dns_record,
    floating_address,
    network,
    network_host,
    network_peering,
    network_route,
    port,
    security_binding,
    security_group,
    security_rule,
    subnet,
)
from penstock.store.schema.operations import audit, event, setting
from penstock.store.schema.tenancy import (
    api_key,
    identity,
    principal,
    project,
    quota,
    quota_use,
    role_binding,
    tenant,
    totp,
)

__all__ = [
    "TENANT_TABLES",
    "address_pool",
    "agent",
    "allocation",
    "api_key",
    "audit",
    "claim",
    "decision",
    "deletion_proof",
    "device",
    "device_class",
    "dns_record",
    "document",
    "document_version",
    "event",
    "floating_address",
    "identity",
    "invoice",
    "invoice_line",
    "join_token",
    "knowledge_base",
    "knowledge_usage",
    "metadata",
    "model",
    "network",
    "network_host",
    "network_peering",
    "network_route",
    "node",
    "offer",
    "port",
    "power_feed",
    "price",
    "price_book",
    "principal",
    "project",
    "quota",
    "quota_use",
    "rack",
    "role_binding",
    "security_binding",
    "security_group",
    "security_rule",
    "segment",
    "service",
    "setting",
    "site",
    "subnet",
    "tenant",
    "token_usage",
    "totp",
]
