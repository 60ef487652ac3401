"""The menu: what a person may see, by the permissions of the actions behind the pages."""

from dataclasses import dataclass

from penstock.actions.context import Actor
from penstock.actions.scope import places


@dataclass(frozen=True, slots=True)
class Item:
    """One entry: its page, its name, its sign, the permission that its page needs, and the pages that hang below it."""

    path: str
    name: str
    icon: str
    permission: str
    below: tuple[str, ...] = ()

    def holds(self, here: str) -> bool:
        """Tell whether the page ``here`` is this entry's, or hangs below it."""
        return here == self.path or any(here == path or here.startswith(f"{path}/") for path in self._roots)

    @property
    def _roots(self) -> tuple[str, ...]:
        return self.below if self.path == "/" else (self.path, *self.below)


@dataclass(frozen=True, slots=True)
class Group:
    """Entries under one heading."""

    name: str
    items: tuple[Item, ...]


# Pages beside the machines and the networks, which their tabs lead to.
_MACHINES = ("/images", "/volumes", "/ssh-keys")
_NETWORKS = (
    "/subnets",
    "/ports",
    "/security-groups",
    "/floating-addresses",
    "/load-balancers",
    "/certificates",
    "/public-names",
    "/flows",
    "/fabric",
    "/fabric-nodes",
    "/network-peerings",
    "/network-routes",
    "/network-hosts",
    "/address-pools",
    "/names",
)

TENANT = (
    Group(
        "Work",
        (
            Item("/", "Home", "home", "service:read"),
            Item("/catalogue", "Catalogue", "catalogue", "offer:read"),
            Item("/services", "Services", "service", "service:read"),
            Item("/reservations", "Reservations", "calendar", "reservation:read"),
            Item("/playground", "Playground", "chat", "llm:call"),
            Item("/batches", "Batches", "stack", "batch:read"),
            Item("/objectives", "Promises", "promise", "service:read"),
            Item("/knowledge", "Knowledge bases", "book", "knowledge_base:read"),
            Item("/machines", "Machines", "machine", "vm:read", _MACHINES),
            Item("/networks", "Networks", "net", "network:read", _NETWORKS),
        ),
    ),
    Group(
        "Account",
        (
            Item("/keys", "Keys", "key", "api_key:read"),
            Item("/usage", "Usage", "usage", "usage:read"),
            Item("/invoices", "Invoices", "invoice", "invoice:read"),
            Item("/members", "Members", "people", "principal:read"),
            Item("/quotas", "Quotas", "gauge", "quota:read"),
            Item("/rate-limits", "Rate limits", "speed", "rate_limit:read"),
            Item("/shares", "Fair shares", "share", "quota:read"),
        ),
    ),
    Group(
        "Records",
        (
            Item("/events", "Events", "event", "event:read"),
            Item("/audit", "Audit trail", "audit", "audit:read"),
        ),
    ),
)
FACTORY = (
    Group(
        "Factory",
        (
            Item("/floor", "Floor", "floor", "device:read"),
            Item("/capacity", "Capacity", "gauge", "report:read"),
            Item("/reservations", "Calendar", "calendar", "report:read"),
            Item("/maintenance", "Maintenance", "tool", "maintenance:read"),
            Item("/placement", "Placement", "place", "service:read"),
            Item("/shares", "Fair shares", "share", "quota:read"),
            Item("/objectives", "Promises", "promise", "service:read"),
            Item("/machines", "Machines", "machine", "vm:read", _MACHINES),
            Item("/networks", "Networks", "net", "network:read", _NETWORKS),
            Item("/power", "Power", "power", "power_feed:read"),
            Item("/agents", "Agents and health", "agent", "agent:read"),
        ),
    ),
    Group(
        "Business",
        (
            Item("/tenants", "Tenants", "people", "tenant:read"),
            Item("/members", "Members", "key", "principal:read"),
            Item("/rate-limits", "Rate limits", "speed", "rate_limit:read"),
            Item("/offers", "Offers", "catalogue", "offer:read"),
            Item("/prices", "Price book", "price", "price:read"),
            Item("/money", "Money", "usage", "report:read"),
            Item("/usage", "Usage", "service", "usage:read"),
            Item("/invoices", "Invoices", "invoice", "invoice:read"),
        ),
    ),
    Group(
        "Records",
        (
            Item("/events", "Events", "event", "event:read"),
            Item("/audit", "Audit trail", "audit", "audit:read"),
        ),
    ),
)


def may_see(actor: Actor, permission: str) -> bool:
    """Tell whether the caller has a permission somewhere: in its whole tenant, or in one of its projects."""
    return any(actor.may(permission, actor.tenant_id, place) for place in places(actor))


def may_make(actor: Actor, permission: str) -> bool:
    """Tell whether the caller may make what belongs to a project: somewhere in its tenant, and operators nowhere."""
    return actor.tenant_id is not None and may_see(actor, permission)


def menu_for(actor: Actor) -> list[Group]:
    """Return the groups with the entries that the caller may open; empty groups are left out."""
    groups = FACTORY if actor.tenant_id is None else TENANT
    shown = (
        Group(group.name, tuple(item for item in group.items if may_see(actor, item.permission)))
        for group in groups
    )
    return [group for group in shown if group.items]
