"""What is due at the same moment is leased in the order in which it was made, whatever order the database has it in."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from sqlalchemy import Connection

from penstock.control_plane import ControlPlane
from penstock.store import batch as batch_store
from penstock.store import document as document_store
from penstock.store.database import SYSTEM
from tests.fixtures.factory import plain

LEASE = timedelta(seconds=30)
COUNT = 12
Lease = Callable[[Connection, datetime, str, int, timedelta], list[dict[str, Any]]]
BATCH = """
INSERT INTO batch (id, tenant_id, project_id, endpoint, state, input_file_id, principal_id, key_id, pass_sha256, pass_sealed,
    created_at, expires_at, due_at)
VALUES (%(id)s, 't', 'p', '/v1/chat/completions', 'validating', 'f', 'u', 'k', 's', 's', %(now)s, %(now)s, %(now)s)
"""
DOCUMENT = """
INSERT INTO document (id, tenant_id, project_id, knowledge_base_id, name, version, state, created_by, created_at, updated_at,
    due_at)
VALUES (%(id)s, 't', 'p', 'b', %(id)s, 1, 'waiting', 'u', %(now)s, %(now)s, %(now)s)
"""


@pytest.mark.parametrize(
    ("insert", "lease"),
    [(BATCH, batch_store.lease), (DOCUMENT, document_store.lease)],
    ids=["batch", "document"],
)
def test_ties_go_by_id(
    control_plane: ControlPlane, database_url: str, insert: LiteralString, lease: Lease
) -> None:
    now = control_plane.clock.now()
    ids = [f"one_{number:02}" for number in range(COUNT)]
    with psycopg.connect(plain(database_url)) as everything:
        everything.execute("SET session_replication_role = replica")  # what rows refer to is not needed here
        for one in reversed(ids):
            everything.execute(insert, {"id": one, "now": now})
    taken: list[str] = []
    for _ in range(3):
        with control_plane.db.transaction(SYSTEM) as connection:
            taken += [row["id"] for row in lease(connection, now, "token", COUNT // 3, LEASE)]
    assert taken == ids
