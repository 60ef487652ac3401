"""The operator's policies, kept as one setting; what nobody set has its default."""

from dataclasses import asdict

from sqlalchemy.engine import Connection

from penstock.domain.policy import Policy, policy_from
from penstock.store import setting as setting_store

_NAME = "policy"


def read(connection: Connection) -> Policy:
    """Return the policies in force."""
    return policy_from(setting_store.get(connection, _NAME) or {})


def put(connection: Connection, policy: Policy) -> None:
    """Set the policies."""
    setting_store.put(connection, _NAME, asdict(policy))
