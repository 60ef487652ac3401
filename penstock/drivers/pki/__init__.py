"""The factory's own certificate authority, and what an agent needs to be certified by it."""

from penstock.drivers.pki.authority import FactoryCa
from penstock.drivers.pki.certificates import (
    SERVER_NAME,
    AgentCertificate,
    AgentIdentity,
    read_agent_certificate,
)

__all__ = ["SERVER_NAME", "AgentCertificate", "AgentIdentity", "FactoryCa", "read_agent_certificate"]
