"""Files and batches at the gateway's address: streamed to the control plane and back, bounded, and refused with words."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from penstock.base import limits
from tests.support.gateway_peers import (
    ControlPlane,
    Engine,
    Gateway,
    ask,
    completions,
    factory_arguments,
    key_entry,
    model_entry,
)
from tests.support.waiting import until

PIECE = b"y" * (1 << 16)
KEY = {"authorization": "Bearer sk-test"}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    process = Engine(tmp_path)
    yield process
    process.stop()


@pytest.fixture
def plane(engine: Engine) -> Iterator[ControlPlane]:
    control = ControlPlane()
    control.publish(keys=[key_entry("sk-test")], models=[model_entry(engine.base)])
    control.start()
    yield control
    control.stop()


@pytest.fixture
def gateway(tmp_path: Path, plane: ControlPlane) -> Iterator[Gateway]:
    process = Gateway(tmp_path, *factory_arguments(tmp_path, plane))
    until(lambda: process.get("/healthz")["snapshot_version"] == 2, "the snapshot is applied")
    yield process
    process.stop()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", headers=KEY, timeout=30) as made:
        yield made


def pieces(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield PIECE


def test_bodies_and_answers_are_passed_on_as_they_come(
    plane: ControlPlane, gateway: Gateway, client: httpx.Client
) -> None:
    before = psutil.Process(gateway.process.pid).memory_info().rss
    whole = hashlib.sha256(PIECE * 320).hexdigest()
    headers = {"content-length": str(len(PIECE) * 320), "content-type": "text/x", "OpenAI-Project": "prj_1"}
    for extra, framing in ((headers, "content-length"), ({}, "transfer-encoding")):
        answer = client.post("/v1/files?a=b", content=pieces(320), headers=extra)
        assert (answer.status_code, answer.json()) == (200, {"id": "file_1", "bytes": 320 << 16})
        method, path, told, digest, _ = plane.forwarded[-1]
        assert (method, path, digest) == ("POST", "/v1/files?a=b", whole)
        assert framing in told
    assert plane.forwarded[0][2]["openai-project"] == "prj_1"
    assert plane.forwarded[0][2]["content-type"] == "text/x"
    with client.stream("GET", "/v1/files/file_1/content") as content:
        assert sum(map(len, content.iter_raw())) == 64 << 16
    assert client.delete("/v1/files/file_1").status_code == 200
    assert client.get("/v1/batches/batch_1").status_code == 200
    assert client.get("/v1/models").status_code == 200  # the connection is the same and goes on
    assert psutil.Process(gateway.process.pid).memory_info().rss - before < 12 << 20


def test_who_may_what_is_the_control_planes_to_say(
    plane: ControlPlane, gateway: Gateway, client: httpx.Client
) -> None:
    foreign = client.get("/v1/files", headers={"authorization": "Bearer sk-other"})
    assert foreign.status_code == 401
    assert plane.forwarded[-1][2]["authorization"] == "Bearer sk-other"
    count = len(plane.forwarded)
    refusals = {
        client.get("/v1/files", headers={"authorization": ""}).status_code: 401,
        client.put("/v1/files/file_1").status_code: 405,
        client.get("/v1/files/%2e%2e/tenants").status_code: 404,
        client.get("/v1/filesystem").status_code: 404,
    }
    assert all(found == wanted for found, wanted in refusals.items())
    assert len(plane.forwarded) == count
    with socket.create_connection(("127.0.0.1", gateway.port)) as large:
        head = b"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\ncontent-length: %d\r\n\r\n"
        large.sendall(head % (limits.FILE_BYTES_MAX + (2 << 20)))
        said = large.recv(4_096)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"request_too_large" in said


def test_a_body_without_a_stated_end_is_bounded(plane: ControlPlane, client: httpx.Client) -> None:
    count = (limits.FILE_BYTES_MAX >> 16) + 64
    try:
        refused = client.post("/v1/files", content=pieces(count))
    except (httpx.WriteError, httpx.ReadError):
        return  # the refusal came while the client still sent
    assert refused.status_code == 413
    assert plane.forwarded == []


def test_without_a_control_plane_completions_go_on_and_files_say_what_is_wrong(
    plane: ControlPlane, gateway: Gateway, client: httpx.Client
) -> None:
    plane.stop()
    away = client.post("/v1/files", content=b"x")
    error = away.json()["error"]
    assert (away.status_code, error["code"]) == (503, "control_plane_away")
    assert "completions go on" in error["message"]
    assert away.headers["retry-after"] == "5"
    assert completions(gateway.port, ask(max_tokens=2), key="sk-test")[0] == 200


def test_a_client_that_leaves_in_the_middle_costs_nothing(gateway: Gateway, client: httpx.Client) -> None:
    for _ in range(limits.FORWARDS_AT_ONCE_MAX + 2):
        with socket.create_connection(("127.0.0.1", gateway.port)) as leaving:
            leaving.sendall(
                b"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test\r\ncontent-length: 1000\r\n\r\nab"
            )
    until(lambda: client.post("/v1/files", content=b"x").status_code == 200, "there is room again")
