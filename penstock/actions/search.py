"""Search over everything the caller may see: the permissions and walls are those of the pages behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.actions.context import Actor, Context
from penstock.actions.scope import places
from penstock.store import search as search_store
from penstock.store.rows import Row

EACH_MAX = 6
CHARACTERS_MAX = 100
# Nouns and the permission that shows them; keys are one's own unless one sees the tenant's people.
_OF_TENANTS: Sequence[tuple[str, str]] = (
    ("service", "service:read"),
    ("vm", "vm:read"),
    ("reservation", "reservation:read"),
    ("image", "image:read"),
    ("ssh_key", "ssh_key:read"),
    ("offer", "offer:read"),
    ("knowledge_base", "knowledge_base:read"),
    ("document", "knowledge_base:read"),
    ("network", "network:read"),
    ("load_balancer", "load_balancer:read"),
    ("user", "principal:read"),
    ("project", "project:read"),
    ("api_key", "principal:read"),
    ("invoice", "invoice:read"),
)
_OF_FACTORY: Sequence[tuple[str, str]] = (
    ("tenant", "tenant:read"),
    ("service", "service:read"),
    ("vm", "vm:read"),
    ("reservation", "reservation:read"),
    ("node", "node:read"),
    ("device", "device:read"),
    ("agent", "agent:read"),
    ("offer", "offer:read"),
    ("invoice", "invoice:read"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """One thing: its noun, id, name, and a word about it."""

    noun: str
    id: str
    name: str
    note: str


def find(context: Context, actor: Actor, word: str) -> list[Found]:
    """Return what has ``word`` in its name or as its id, at most ``EACH_MAX`` of each kind; [] for an empty word."""
    word = word.strip()[:CHARACTERS_MAX]
    if not word:
        return []
    nouns = _OF_FACTORY if actor.tenant_id is None else _OF_TENANTS
    seen = [
        noun
        for noun, permission in nouns
        if any(actor.may(permission, actor.tenant_id, place) for place in places(actor))
    ]
    found: list[Found] = []
    with context.db.transaction(actor.scope) as connection:
        for noun in seen:
            if noun == "invoice" and actor.project_ids is not None:
                continue  # an invoice is the whole tenant's
            rows = search_store.find(connection, noun, word, project_ids=actor.project_ids, limit=EACH_MAX)
            found += [
                Found(noun, row["id"], row["name"], row["note"]) for row in rows if _may(actor, noun, row)
            ]
    return found


def _may(actor: Actor, noun: str, row: Row) -> bool:
    """Tell whether an offer is for the caller's tenant; everything else is kept out by the database."""
    eligible = row.get("eligible_tenants") if noun == "offer" else None
    return eligible is None or actor.tenant_id is None or actor.tenant_id in eligible
