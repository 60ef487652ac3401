"""The HTTP client of the commands: pages, refusals, unreachable factories, event streams."""

import json
from collections.abc import Callable

import httpx
import pytest

from penstock.cli.client import Client, parse_events, refused
from penstock.cli.context import Target
from penstock.cli.errors import CliError

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer, key: str | None = None) -> Client:
    return Client(Target("t", "http://factory.test", key), transport=httpx.MockTransport(answer))


def numbers(count: int) -> Answer:
    """Answer pages of the ids 0 to count-1, as the API does."""

    def answer(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params.get("after", "-1")) + 1
        limit = int(request.url.params["limit"])
        ids = list(range(start, min(start + limit, count)))
        more = ids[-1] if ids and ids[-1] < count - 1 else None
        return httpx.Response(
            200, json={"items": [{"id": i} for i in ids], "next": None if more is None else str(more)}
        )

    return answer


def test_all_pages_are_followed() -> None:
    items, more = client(numbers(1_234)).items("/v1/x")
    assert [item["id"] for item in items] == list(range(1_234))
    assert more is None


@pytest.mark.parametrize(
    ("limit", "expected", "more"), [(1, 1, "0"), (700, 700, "699"), (1_234, 1_234, None)]
)
def test_a_limit_ends_the_list_and_says_where_to_go_on(limit: int, expected: int, more: str | None) -> None:
    items, place = client(numbers(1_234)).items("/v1/x", limit=limit)
    assert (len(items), place) == (expected, more)


def test_the_key_is_sent_and_parameters_without_value_are_not() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer psk_x"
        assert str(request.url) == "http://factory.test/v1/x?a=1"
        return httpx.Response(200, json={"ok": True})

    assert client(answer, "psk_x").get("/v1/x", {"a": 1, "b": None}) == {"ok": True}


def test_a_refusal_says_what_the_api_said_with_its_code() -> None:
    body = {
        "error": {"code": "conflict", "message": "taken; choose another", "field": "name", "request_id": "r"}
    }
    error = refused(409, json.dumps(body).encode())
    assert (error.exit_code, error.code) == (3, "conflict")
    assert error.sentence == "name: taken; choose another [conflict]"
    defect = {
        "error": {"code": "internal_error", "message": "a defect", "field": None, "request_id": "req_1"}
    }
    assert refused(500, json.dumps(defect).encode()).sentence == "a defect [internal_error, req_1]"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"error": 1}', b'"x"'])
def test_a_refusal_without_explanation_is_no_crash(content: bytes) -> None:
    assert "HTTP status 502" in refused(502, content).sentence


def test_nobody_there_says_how_to_start_the_factory() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(CliError, match="penstock up") as caught:
        client(answer).get("/v1/x")
    assert caught.value.exit_code == 4


def test_an_answer_of_something_else_is_named() -> None:
    with pytest.raises(CliError, match="no factory's answer") as caught:
        client(lambda _: httpx.Response(200, text="<html>hello</html>")).get("/v1/x")
    assert caught.value.exit_code == 4


def test_an_impossible_address_is_named() -> None:
    with pytest.raises(CliError) as caught:
        Client(Target("t", "http://[::1")).get("/v1/x")
    assert caught.value.exit_code == 4


def test_events_are_read_from_a_stream() -> None:
    lines = [
        "retry: 1000",
        "",
        ": heartbeat",
        "",
        "id: 7",
        "event: a.b",
        'data: {"x":',
        "data:1}",
        "",
        "id: 8",
    ]
    assert list(parse_events(lines)) == [("7", {"x": 1})]


def test_a_stream_sends_the_place_to_go_on_and_shows_refusals() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("last-event-id") == "6":
            return httpx.Response(200, text='id: 7\ndata: {"x": 1}\n\n')
        body = {"error": {"code": "unavailable", "message": "too many", "request_id": "r"}}
        return httpx.Response(503, json=body)

    assert list(client(answer).events("/v1/events/watch", {"kind": None}, "6")) == [("7", {"x": 1})]
    with pytest.raises(CliError, match="too many"):
        list(client(answer).events("/v1/events/watch"))
