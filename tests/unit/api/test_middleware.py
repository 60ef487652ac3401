"""The outermost layer: every answer has an id, no body is read past its limit, every request is counted."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from penstock.api.middleware import REQUESTS, EdgeMiddleware
from penstock.base import limits

MOST = limits.BODY_BYTES_MAX
PIECE = b"x" * 65_536


async def reader(scope: Any, receive: Any, send: Any) -> None:
    """Read the whole body and say how long it was, as far as that goes."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/fails":
        raise ValueError("a defect")
    length, more = 0, True
    while more:
        try:
            message = await receive()
        except Exception:  # what a framework does with an error while it reads a body
            if scope["path"] != "/swallows":
                raise
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"made of the signal"})
            return
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(length).encode()})


@pytest.fixture
def client() -> TestClient:
    return TestClient(EdgeMiddleware(reader), raise_server_exceptions=False)


def pieces(total: int) -> Iterator[bytes]:
    """Return a body whose length nobody declares."""
    for start in range(0, total, len(PIECE)):
        yield PIECE[: min(len(PIECE), total - start)]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not(
    client: TestClient,
    chunked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    def body(length: int) -> Any:
        return pieces(length) if chunked else b"x" * length

    assert client.post("/", content=body(MOST)).text == str(MOST)
    answer = client.post("/", content=body(MOST + 1))
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert (error["code"], error["data"]) == ("too_large", {"limit_bytes": MOST})
    assert error["request_id"] == answer.headers["x-request-id"]


def test_an_application_that_makes_another_answer_of_it_is_overruled(client: TestClient) -> None:
    answer = client.post("/swallows", content=pieces(MOST + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("length", ["-1", "1e3", "many"])
def test_a_length_that_is_no_number_is_not_believed(client: TestClient, length: str) -> None:
    answer = client.post("/", content=b"abc", headers={"content-length": length})
    assert (answer.status_code, answer.text) == (200, "3")


def test_each_answer_has_an_id_of_its_own_and_is_neither_stored_nor_sniffed(client: TestClient) -> None:
    first, second = client.get("/"), client.get("/", headers={"x-request-id": "mine"})
    assert first.headers["x-request-id"].startswith("req_")
    assert len({first.headers["x-request-id"], second.headers["x-request-id"], "mine"}) == 3
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [("/", b"", "200"), ("/", b"x" * (MOST + 1), "413"), ("/fails", b"", "500")],
)
def test_every_request_is_counted_by_its_status_and_never_by_its_path(
    client: TestClient, path: str, content: bytes, status: str
) -> None:
    counter = REQUESTS.labels("POST", "unmatched", status)
    before = counter._value.get()
    client.post(path, content=content)
    assert counter._value.get() == before + 1
