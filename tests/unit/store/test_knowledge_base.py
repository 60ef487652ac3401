"""Full-text search among many chunks: what it looks at is bounded, and what it finds is the best."""

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.control_plane import ControlPlane
from penstock.store import knowledge_base as base_store
from penstock.store.database import SYSTEM
from penstock.store.rows import Row
from penstock.store.schema import document, knowledge_base
from tests.fixtures.factory import plain
from tests.support.commerce import make_market
from tests.support.knowledge import add_endpoint
from tests.support.tenancy import Tenant

CHUNKS = 3_000
BOTH = 2_345  # the only chunk that holds both frequent words


def fill(connection: Connection, base: Row) -> None:
    now = base["created_at"]
    connection.execute(
        sa.insert(document).values(
            id="doc_1",
            tenant_id=base["tenant_id"],
            project_id=base["project_id"],
            knowledge_base_id=base["id"],
            name="all",
            version=1,
            indexed_version=1,
            state="ready",
            created_by="usr_1",
            created_at=now,
            updated_at=now,
        )
    )
    chunks = [
        {
            "position": n,
            "heading": "pressure" if n == 77 else "",
            "page": None,
            "start": 0,
            "end": 1,
            "content": f"{'valve pump' if n == BOTH else ('valve', 'pump', 'pipe')[n % 3]} number {'long ' * (n % 7)}",
            "vector": f"[{n}, {CHUNKS - n}]",
        }
        for n in range(CHUNKS)
    ]
    base_store.add_chunks(connection, base, "doc_1", 1, chunks)


@pytest.fixture
def base(control_plane: ControlPlane, acme: Tenant) -> Row:
    market = make_market(control_plane)
    now = control_plane.clock.now()
    row: Row = {
        "id": "knb_1",
        "tenant_id": acme.id,
        "project_id": acme.project_id,
        "name": "big",
        "service_id": add_endpoint(market, acme, "embedding", None),
        "model": "small",
        "dimensions": 2,
        "language": "english",
        "chunk_characters": 800,
        "overlap_characters": 0,
        "created_by": "usr_1",
        "created_at": now,
        "metered_until": now,
    }
    with control_plane.db.transaction(SYSTEM) as connection:
        assert base_store.insert(connection, row)
        fill(connection, row)
    with psycopg.connect(plain(control_plane.db.url), autocommit=True) as superuser:
        superuser.execute('ANALYZE penstock_knowledge."knb_1"')
    return row


def found(plane: ControlPlane, base: Row, asked: str, most: int = 10) -> list[int]:
    with plane.db.transaction(SYSTEM) as connection:
        assert connection.execute(sa.select(knowledge_base.c.id)).scalar_one() == base["id"]
        return [row["position"] for row in base_store.with_words(connection, base, asked, most)]


def test_two_frequent_words_together_are_found_among_thousands(
    control_plane: ControlPlane, base: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_store, "_WORDS_BUDGET", 150)
    assert found(control_plane, base, "which valve has a pump?")[0] == BOTH


def test_a_word_of_the_heading_and_a_short_chunk_come_first(control_plane: ControlPlane, base: Row) -> None:
    assert found(control_plane, base, "the pressure of a pipe")[0] == 77
    short = found(control_plane, base, "pipes", most=5)
    assert all(position % 7 == 0 and position % 3 == 2 for position in short), short


def test_a_frequent_word_alone_is_looked_up_within_bounds(
    control_plane: ControlPlane, base: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_store, "_WORDS_BUDGET", 20)
    assert len(found(control_plane, base, "number", most=1_000)) == 40, "twice the budget is read at most"
    assert found(control_plane, base, "of the and") == []
    assert found(control_plane, base, "turbine") == []
