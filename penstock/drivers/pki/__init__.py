"""The factory's own certificate authority, and what an agent needs to be certified by it."""

from penstock.drivers.pki.authority import FactoryCa
from penstock.drivers.pki.certificates import (
    GATEWAY_URI,
    SERVER_NAME,
    AgentCertificate,
    AgentIdentity,
    read_agent_certificate,
)
from penstock.drivers.pki.names import allocation_in, relay_name, relay_wildcard

__all__ = [
    "GATEWAY_URI",
    "SERVER_NAME",
    "AgentCertificate",
    "AgentIdentity",
    "FactoryCa",
    "allocation_in",
    "read_agent_certificate",
    "relay_name",
    "relay_wildcard",
]
