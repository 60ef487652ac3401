"""Makes the client commands of this user talk to the factory that was just started."""

from dataclasses import replace

from penstock.actions.bootstrap import FirstKeys
from penstock.cli import context as contexts
from penstock.cli.context import Target

TENANT_CONTEXT = "demo"
OPERATOR_CONTEXT = "operator"


def write_contexts(keys: FirstKeys, api_url: str, gateway_url: str) -> None:
    """Write the contexts ``demo`` (a tenant's) and ``operator``; keep a current one that the user chose."""
    stored = contexts.load()
    targets = dict(stored.targets)
    targets[TENANT_CONTEXT] = Target(TENANT_CONTEXT, api_url, keys.demo_key, gateway_url)
    targets[OPERATOR_CONTEXT] = Target(OPERATOR_CONTEXT, api_url, keys.operator_key, gateway_url)
    current = stored.current if stored.current in targets else TENANT_CONTEXT
    contexts.save(replace(stored, current=current, targets=targets))
