"""Finding things by a piece of their name, or by their whole id; a few of each kind."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.domain.service import TERMINAL
from penstock.store.rows import Row, every

# Each is bounded and looks at what lives; what is over is found by its id. Placeholders: name pattern, id, limit.
_QUERIES = {
    "service": (
        "SELECT id, name, state AS note FROM service WHERE kind <> 'vm' AND (id = :id OR (name ILIKE :pattern "
        "AND state <> ALL(CAST(:over AS text[])))) {projects} ORDER BY id DESC LIMIT :limit"
    ),
    "api_key": (
        "SELECT id, name, 'key' AS note FROM api_key WHERE NOT session AND revoked_at IS NULL "
        "AND (id = :id OR prefix = :word OR name ILIKE :pattern) {projects} ORDER BY id DESC LIMIT :limit"
    ),
    "knowledge_base": (
        "SELECT id, name, model AS note FROM knowledge_base WHERE wanted = 'active' "
        "AND (id = :id OR name ILIKE :pattern) {projects} ORDER BY id DESC LIMIT :limit"
    ),
    "network": (
        "SELECT id, name, dns_zone AS note FROM network WHERE wanted = 'active' "
        "AND (id = :id OR name ILIKE :pattern) {projects} ORDER BY id DESC LIMIT :limit"
    ),
    "load_balancer": (
        "SELECT id, name, 'load balancer' AS note FROM load_balancer WHERE wanted = 'present' "
        "AND (id = :id OR name ILIKE :pattern) {projects} ORDER BY id DESC LIMIT :limit"
    ),
    "document": (
        "SELECT id, name, state AS note FROM document WHERE wanted <> 'deleted' "
        "AND (id = :id OR name ILIKE :pattern) {projects} ORDER BY id DESC LIMIT :limit"
    ),
    "vm": (
        "SELECT id, name, 'machine' AS note FROM service WHERE kind = 'vm' AND (id = :id OR (name ILIKE :pattern "
        "AND state <> ALL(CAST(:over AS text[])))) {projects} ORDER BY id DESC LIMIT :limit"
    ),
    "reservation": (
        "SELECT id, name, state AS note FROM reservation WHERE purpose = 'reserved' AND (id = :id OR (name ILIKE :pattern "
        "AND state IN ('booked', 'opening', 'active'))) {projects} ORDER BY id DESC LIMIT :limit"
    ),
    "image": (
        "SELECT id, name, state AS note FROM image WHERE (id = :id OR name ILIKE :pattern) "
        "{projects} ORDER BY id DESC LIMIT :limit"
    ),
    "ssh_key": (
        "SELECT id, name, 'SSH key' AS note FROM ssh_key WHERE (id = :id OR name ILIKE :pattern) "
        "{projects} ORDER BY id DESC LIMIT :limit"
    ),
    "user": (
        "SELECT id, name, 'user' AS note FROM principal WHERE kind = 'user' "
        "AND (id = :id OR name ILIKE :pattern) ORDER BY name LIMIT :limit"
    ),
    "project": (
        "SELECT id, name, 'project' AS note FROM project WHERE state <> 'deleted' "
        "AND (id = :id OR name ILIKE :pattern) {ids} ORDER BY name LIMIT :limit"
    ),
    "offer": (
        "SELECT id, title AS name, name AS note, eligible_tenants FROM offer WHERE state = 'active' "
        "AND (id = :id OR name ILIKE :pattern OR title ILIKE :pattern) ORDER BY id LIMIT :limit"
    ),
    "invoice": (
        "SELECT id, COALESCE(number, 'draft') AS name, to_char(period_start, 'YYYY-MM') AS note FROM invoice "
        "WHERE id = :id OR number ILIKE :pattern ORDER BY id DESC LIMIT :limit"
    ),
    "tenant": (
        "SELECT id, name, state AS note FROM tenant WHERE state <> 'deleted' "
        "AND (id = :id OR name ILIKE :pattern) ORDER BY id LIMIT :limit"
    ),
    "node": (
        "SELECT id, name, state AS note FROM node WHERE id = :id OR name ILIKE :pattern ORDER BY name LIMIT :limit"
    ),
    "device": (
        "SELECT id, device_class AS name, COALESCE(serial, '') AS note FROM device "
        "WHERE id = :id OR serial = :word OR uuid = :word ORDER BY id LIMIT :limit"
    ),
    "agent": (
        "SELECT id, name, state AS note FROM agent WHERE id = :id OR name ILIKE :pattern ORDER BY name LIMIT :limit"
    ),
}
_OF_PROJECTS = "AND (project_id IS NULL OR project_id = ANY(CAST(:projects AS text[])))"

_PROJECTS = "AND id = ANY(CAST(:projects AS text[]))"


def find(
    connection: Connection, noun: str, word: str, *, project_ids: Collection[str] | None, limit: int
) -> list[Row]:
    """Return up to ``limit`` things of a kind as ``id``, ``name`` and ``note``; KeyError on another noun.

    ``project_ids`` confines services and keys; the scope of the connection confines everything of a tenant.
    """
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    text = _QUERIES[noun].replace("{projects}", "" if project_ids is None else _OF_PROJECTS)
    text = text.replace("{ids}", "" if project_ids is None else _PROJECTS)
    over = sorted(state.value for state in TERMINAL)
    values: dict[str, object] = {
        "id": word,
        "word": word,
        "pattern": f"%{escaped}%",
        "over": over,
        "limit": limit,
    }
    if project_ids is not None:
        values["projects"] = sorted(project_ids)
    used = {name: value for name, value in values.items() if f":{name}" in text}
    return every(connection.execute(sa.text(text), used))
