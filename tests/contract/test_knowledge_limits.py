"""Knowledge bases and what they cannot take: a gigabyte of text, a binary by another name, a database without pgvector."""

import asyncio
import json
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from penstock.api.app import create_app
from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from tests.fixtures.factory import plain
from tests.support.commerce import make_market
from tests.support.knowledge import add_endpoint, make_base, send
from tests.support.tenancy import Tenant, make_tenant

MEBIBYTE = 1 << 20
GIBIBYTE_PIECES = 1_024


@pytest.fixture
def base(control_plane: ControlPlane, acme: Tenant) -> str:
    add_endpoint(make_market(control_plane), acme, "embedding", None)
    return make_base(acme.member, acme)


def test_a_gigabyte_is_refused_while_it_streams(control_plane: ControlPlane, acme: Tenant, base: str) -> None:
    taken = 0
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"a" * MEBIBYTE, "more_body": taken < GIBIBYTE_PIECES}

    async def answer(message: Any) -> None:
        sent.append(message)

    path = f"/v1/knowledge_bases/{base}/documents"
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"name=huge.txt",
        "headers": [
            (b"authorization", f"Bearer {acme.member.key}".encode()),
            (b"content-type", b"text/plain"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    app: Any = create_app(control_plane)
    asyncio.run(app(scope, receive, answer))
    assert sent[0]["status"] == 413
    error = json.loads(b"".join(message.get("body", b"") for message in sent[1:]))["error"]
    assert f"{limits.DOCUMENT_BYTES_MAX} bytes" in error["message"]
    assert taken <= limits.DOCUMENT_BYTES_MAX // MEBIBYTE + 2, "no more is read than what may be kept"
    assert acme.member.get("/v1/documents").json()["items"] == []


@pytest.mark.parametrize(
    "data", [b"\x7fELF\x02\x01\x01" + bytes(200), b"\x89PNG\r\n\x1a\n" + bytes(200), bytes(range(256)) * 8]
)
def test_a_binary_named_txt_is_refused_and_leaves_nothing(acme: Tenant, base: str, data: bytes) -> None:
    answer = send(acme.member, base, "notes.txt", data, "text/plain")
    assert answer.status_code == 422, answer.text
    assert acme.member.get("/v1/documents").json()["items"] == []


def test_a_database_without_pgvector_says_what_to_do_and_keeps_nothing(
    external_database_url: str, clock: ManualClock
) -> None:
    with psycopg.connect(plain(external_database_url)) as connection:
        if connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
            pytest.skip("the machine's PostgreSQL has pgvector")
    plane = ControlPlane(external_database_url, clock, connections=2)
    try:
        refuses(plane)
    finally:
        plane.close()


def refuses(plane: ControlPlane) -> None:

    with TestClient(create_app(plane), raise_server_exceptions=False) as client:
        tenant = make_tenant(plane, client, "acme")
        add_endpoint(make_market(plane), tenant, "embedding", None)
        body = {"name": "handbook", "project_id": tenant.project_id, "service": "embedding"}
        answer = tenant.member.post("/v1/knowledge_bases", **body)
        assert answer.status_code == 503, answer.text
        assert "pgvector" in answer.json()["error"]["message"]
        assert tenant.member.get("/v1/knowledge_bases").json()["items"] == []
        assert tenant.member.get("/v1/services").status_code == 200, "everything else works"
