"""Knowledge bases for tests: services with a replica at a given address, and documents that get indexed."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import sqlalchemy as sa

from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation, model, node
from tests.support.commerce import Market
from tests.support.tenancy import Caller, Tenant

EMBEDDING_MODEL = {"name": "all-minilm-l6-v2", "kind": "embedding", "dimensions": 384, "context_tokens": 256}
TEXT_MODEL = {"name": "writer", "kind": "generation", "dimensions": None, "context_tokens": 4_096}


def add_model(plane: ControlPlane, facts: dict[str, Any]) -> None:
    """Put a model into the catalogue unless it is there."""
    with plane.db.transaction(SYSTEM) as connection:
        if connection.execute(sa.select(model.c.id).where(model.c.name == facts["name"])).first():
            return
        row = {
            "id": plane.context.new_id("model"),
            "format": "bert",
            "folder": "/nowhere",
            "size_bytes": 1,
            "parameters": 1,
            "licence": "Apache-2.0",
            "sha256": "0" * 64,
            "engines": ["ctranslate2"],
            "device_classes": ["cpu"],
            "demonstration": False,
            "state": "active",
            "created_at": plane.clock.now(),
            **facts,
        }
        connection.execute(sa.insert(model).values(row))


def add_endpoint(
    market: Market, tenant: Tenant, name: str, url: str | None, facts: dict[str, Any] = EMBEDDING_MODEL
) -> str:
    """Insert a running LLM service of the tenant; its replica answers at ``url`` (None: it has none)."""
    plane = market.plane
    add_model(plane, facts)
    service_id = market.service(
        tenant,
        offer="llm",
        simulated=False,
        name=name,
        kind="llm",
        spec={"model": facts["name"], "replicas": 1},
    )
    if url is not None:
        with plane.db.transaction(SYSTEM) as connection:
            node_id = connection.execute(sa.select(node.c.id).limit(1)).scalar_one()
            connection.execute(
                sa.insert(allocation).values(
                    id=plane.context.new_id("allocation"),
                    tenant_id=tenant.id,
                    project_id=tenant.project_id,
                    agent_id="agt_test",
                    service_id=service_id,
                    node_id=node_id,
                    driver="ctranslate2",
                    config={"served_model_name": name},
                    wanted="present",
                    generation=1,
                    phase="ready",
                    phase_generation=1,
                    endpoint=url,
                )
            )
    return service_id


def make_base(caller: Caller, tenant: Tenant, service: str = "embedding", **more: Any) -> str:
    """Make a knowledge base over the API and return its id."""
    body = {"name": "handbook", "project_id": tenant.project_id, "service": service, **more}
    answer = caller.request("POST", "/v1/knowledge_bases", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def upload(
    caller: Caller, base_id: str, name: str, data: str | bytes, media: str = "text/markdown"
) -> dict[str, Any]:
    """Upload a document and return it as the API shows it."""
    answer = send(caller, base_id, name, data, media)
    assert answer.status_code in {200, 202}, answer.text
    found: dict[str, Any] = answer.json()
    return found


def send(caller: Caller, base_id: str, name: str, data: str | bytes, media: str) -> Any:
    """Upload a document and return the answer."""
    assert caller.client is not None
    return caller.client.post(
        f"/v1/knowledge_bases/{base_id}/documents",
        params={"name": name},
        content=data.encode() if isinstance(data, str) else data,
        headers={"Authorization": f"Bearer {caller.key}", "Content-Type": media},
    )


def work(plane: ControlPlane) -> None:
    """Let the engine work until nothing is due."""
    for _ in range(1_000):
        if not plane.documents.tick():
            return
    raise AssertionError("the engine finds no end")


class Writer(ThreadingHTTPServer):
    """A protocol-true stand-in for an engine that writes text: it cites its first passage, and remembers what it was asked.

    At ``/rerank`` it ranks, simulated: the shortest text first.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Writer)
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Writer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert isinstance(self.server, Writer)
        self.server.asked.append({**body, "authorization": self.headers.get("authorization")})
        self._say(_ranked(body) if self.path.endswith("/rerank") else _written())

    def _say(self, document: dict[str, Any]) -> None:
        raw = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *arguments: Any) -> None:
        del arguments


def _ranked(body: dict[str, Any]) -> dict[str, Any]:
    """Simulated: the shortest text is the best, as no real reranker would have it."""
    texts = body["documents"]
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    results = [{"index": at, "relevance_score": 1 / (place + 1)} for place, at in enumerate(order)]
    return {"results": results, "usage": {"total_tokens": 50}}


def _written() -> dict[str, Any]:
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    message = {"role": "assistant", "content": "The pump runs first [1]."}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


@contextlib.contextmanager
def writing() -> Iterator[Writer]:
    """Run a stand-in that writes text for as long as the block lasts."""
    server = Writer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
