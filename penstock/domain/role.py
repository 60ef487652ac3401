"""Roles as data: what each may do, and how bindings and key scopes combine.

A permission is ``<noun>:<verb>``. A role grants patterns (``service:*``, ``*:read``). A key's scopes narrow
what its principal may do and never widen it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Role(StrEnum):
    """What a principal is to a tenant, a project, or the whole factory."""

    OPERATOR = "operator"
    TENANT_ADMIN = "tenant_admin"
    MEMBER = "member"
    VIEWER = "viewer"
    AUDITOR = "auditor"


# Machines and what they begin with; a console shows what a machine writes, so reading it is a right of its own, and
# so is typing into it: that is for those who may rebuild the machine anyway. A viewer reads consoles and cannot type.
_MACHINES = ("vm:*", "vm_console:open", "vm_console:write", "ssh_key:*", "image:*", "volume:*")

# What belongs to networks: tenants make these themselves, all of them or none.
_NETWORKS = (
    "network:*",
    "subnet:*",
    "port:*",
    "security_group:*",
    "floating_address:*",
    "dns_record:*",
    "network_route:*",
    "network_peering:*",
    "flow:read",
    "public_record:*",
    "fabric_partition:*",
    "certificate:*",
    "load_balancer:*",
)

_BATCHES = ("file:*", "batch:*")

# What people of a tenant see of it, whether they change it or not.
_SEEN = (
    "offer:read",
    "model:read",
    "project:read",
    "tenant:read",
    "quota:read",
    "rate_limit:read",
    "usage:read",
    "event:read",
    "price:read",
    "invoice:read",
    "api_key:read",
    "device_class:read",
    "address_pool:read",
)
_OWNED = ("service:*", "reservation:*", "knowledge_base:*", *_BATCHES, "secret:*", *_MACHINES, *_NETWORKS)

GRANTS: dict[Role, tuple[str, ...]] = {
    Role.OPERATOR: ("*:*",),
    Role.TENANT_ADMIN: (
        "*:read",
        "service:*",
        "reservation:*",
        "project:*",
        "principal:*",
        "role_binding:*",
        "api_key:*",
        "quota:write",
        "rate_limit:write",
        "llm:call",
        "knowledge_base:*",
        *_BATCHES,
        "secret:*",
        *_MACHINES,
        *_NETWORKS,
    ),
    Role.MEMBER: (*_SEEN, "api_key:own", "llm:call", *_OWNED),
    Role.VIEWER: (
        *_SEEN,
        *(f"{one.partition(':')[0]}:read" for one in _OWNED if one.endswith((":*", ":read"))),
        "vm_console:open",
    ),
    Role.AUDITOR: ("*:read",),
}

# What the tenant's own "*:read" never reaches: the operator's view of hardware, agents and other tenants.
OPERATOR_ONLY = frozenset(
    {
        "node",
        "device",
        "site",
        "rack",
        "power_feed",
        "power_budget",
        "agent",
        "join_token",
        "report",
        "simulated",
        "network_host",
        "fabric",
        "maintenance",
        "weights",
    }
)

# Key scopes as people name them, each a list of permission patterns.
SCOPES: dict[str, tuple[str, ...]] = {
    "*": ("*:*",),
    "read": ("*:read",),
    "services": (
        "service:*",
        "secret:*",
        "reservation:*",
        "project:read",
        "offer:read",
        "price:read",
        "model:read",
        "device_class:read",
        "event:read",
        "quota:read",
    ),
    "llm": ("llm:call", "model:read", *_BATCHES),
    "networks": (*_NETWORKS, "address_pool:read", "project:read", "service:read", "event:read"),
    "machines": (
        *_MACHINES,
        *_NETWORKS,
        "service:*",
        "project:read",
        "offer:read",
        "price:read",
        "device_class:read",
        "event:read",
        "quota:read",
    ),
    "knowledge": ("knowledge_base:*", "llm:call", "project:read", "usage:read", "event:read"),
}


@dataclass(frozen=True, slots=True)
class Binding:
    """A role given on the factory (both None), a tenant, or one project of it."""

    role: Role
    tenant_id: str | None
    project_id: str | None


# Who may give a role away: nobody gives more than he has.
GRANTABLE_BY: dict[Role, frozenset[Role]] = {
    Role.OPERATOR: frozenset({Role.OPERATOR}),
    Role.TENANT_ADMIN: frozenset({Role.OPERATOR, Role.TENANT_ADMIN}),
    Role.MEMBER: frozenset({Role.OPERATOR, Role.TENANT_ADMIN}),
    Role.VIEWER: frozenset({Role.OPERATOR, Role.TENANT_ADMIN}),
    Role.AUDITOR: frozenset({Role.OPERATOR, Role.TENANT_ADMIN}),
}


def misplaced(binding: Binding) -> str | None:
    """Return why a binding makes no sense where it is, as a sentence; None if it does."""
    if binding.project_id is not None and binding.tenant_id is None:
        return "a project belongs to a tenant: name the tenant too"
    if binding.role is Role.OPERATOR and binding.tenant_id is not None:
        return "an operator operates the whole factory: leave tenant and project out"
    if binding.role is Role.TENANT_ADMIN and (binding.tenant_id is None or binding.project_id is not None):
        return "a tenant administrator is one of a whole tenant: name the tenant and leave the project out"
    if binding.role is Role.MEMBER and binding.tenant_id is None:
        return "a member is one of a tenant: name the tenant"
    if binding.role is Role.VIEWER and binding.tenant_id is None:
        return "a viewer is one of a tenant: name the tenant (who sees the whole factory is an auditor)"
    return None


def may_grant(bindings: Iterable[Binding], wanted: Binding) -> bool:
    """Tell whether a principal with ``bindings`` may give away ``wanted``: only what it has there itself."""
    return any(
        held.role in GRANTABLE_BY[wanted.role]
        and held.tenant_id in (None, wanted.tenant_id)
        and held.project_id in (None, wanted.project_id)
        for held in bindings
    )


def granted(
    permission: str,
    bindings: Iterable[Binding],
    scopes: Iterable[str],
    tenant_id: str | None,
    project_id: str | None,
) -> bool:
    """Tell whether ``bindings`` narrowed by ``scopes`` give ``permission`` on an object of that tenant/project.

    ``tenant_id`` None means an object of the factory itself; ``project_id`` None one of the whole tenant.
    """
    noun = permission.partition(":")[0]
    if not any(fnmatchcase(permission, pattern) for scope in scopes for pattern in SCOPES.get(scope, ())):
        return False
    for binding in bindings:
        if binding.tenant_id is not None and binding.tenant_id != tenant_id:
            continue
        if binding.project_id is not None and binding.project_id != project_id:
            continue
        if binding.tenant_id is not None and noun in OPERATOR_ONLY:
            continue
        if any(fnmatchcase(permission, pattern) for pattern in GRANTS[binding.role]):
            return True
    return False
