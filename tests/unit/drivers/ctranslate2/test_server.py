"""A real server, asked by the unmodified ``openai`` client and by raw sockets."""

import contextlib
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from penstock.drivers.ctranslate2.checkpoint import demo_model_dir
from penstock.drivers.ctranslate2.template import TEMPLATES, Message, encode_text
from penstock.drivers.ctranslate2.text import load_tokenizer
from tests.support.waiting import until

NAME = "penstock-demo-5m"
TOKENIZER = load_tokenizer(str(demo_model_dir() / "tokenizer.json"))
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
EXACT: dict[str, Any] = {"include_usage": True, "continuous_usage_stats": True}


@pytest.fixture(scope="module")
def server(start: Any) -> Any:
    return start(demo_model_dir())


@pytest.fixture(scope="module")
def endless(start: Any, endless_model: Path) -> Any:
    return start(endless_model)


@pytest.fixture
def client(server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def endless_client(endless: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{endless.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def reference() -> Any:
    """Return the engine library itself, to count by."""
    import ctranslate2  # noqa: PLC0415 - only these tests compare with it

    return ctranslate2.Generator(str(demo_model_dir()), intra_threads=1)


def reference_ids(reference: Any, prompt: list[int], limit: int, **options: Any) -> list[int]:
    manifest = json.loads((demo_model_dir() / "manifest.json").read_text())
    result = reference.generate_batch(
        [[TOKENIZER.id_to_token(token_id) for token_id in prompt]],
        max_length=limit,
        include_prompt_in_result=False,
        repetition_penalty=manifest.get("repetition_penalty", 1.0),
        **options,
    )
    return result[0].sequences_ids[0]


def raw_stream(server: Any, body: dict[str, Any], request_id: str = "raw") -> socket.socket:
    """Send a streaming request on a bare socket."""
    payload = json.dumps({"model": NAME, "stream": True, "stream_options": EXACT, **body}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-request-id: {request_id}\r\n"
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(payload) + payload)
    return connection


def events(stream: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in stream.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])


def test_health_and_models(server: Any, client: openai.OpenAI) -> None:
    health = httpx.get(f"{server.url}/health").json()
    assert (health["status"], health["model"]) == ("ready", NAME)
    assert 0 < health["loaded_at_us"] <= time.time_ns() // 1000
    assert [model.id for model in client.models.list()] == [NAME]


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_counts_are_those_of_the_engine_itself(client: openai.OpenAI, reference: Any, kind: str) -> None:
    prompt = TEMPLATES["chatml"].prompt(TOKENIZER, [Message("user", "Hello")])
    expected = len(reference_ids(reference, prompt, 60))
    assert expected > 3
    if kind == "stream":
        chunks = list(
            client.chat.completions.create(
                model=NAME, messages=HELLO, temperature=0, max_tokens=60, stream=True, stream_options=EXACT
            )
        )
        usage, text = chunks[-1].usage, [c.choices[0].delta.content or "" for c in chunks[:-1]]
        counts = [c.usage.completion_tokens for c in chunks if c.usage]
        assert counts == [*range(expected + 1), expected, expected]  # one chunk for each token, in order
        assert chunks[-2].choices[0].finish_reason == "stop"
    else:
        answer = client.chat.completions.create(model=NAME, messages=HELLO, temperature=0, max_tokens=60)
        usage, text = answer.usage, [answer.choices[0].message.content or ""]
        assert answer.choices[0].finish_reason == "stop"
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(prompt), expected)
    assert usage.total_tokens == len(prompt) + expected
    assert len(encode_text(TOKENIZER, "".join(text))) == expected


def test_stream_and_whole_say_the_same(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {
        "model": NAME,
        "messages": [{"role": "user", "content": "What is a GPU?"}],
        "temperature": 0,
    }
    whole = client.chat.completions.create(**ask, max_tokens=80).choices[0].message.content
    pieces = client.chat.completions.create(**ask, max_tokens=80, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces) == whole


def test_completions(client: openai.OpenAI, reference: Any) -> None:
    ids = encode_text(TOKENIZER, "Return a new")
    answer = client.completions.create(model=NAME, prompt="Return a new", max_tokens=12, temperature=0)
    by_ids = client.completions.create(model=NAME, prompt=ids, max_tokens=12, temperature=0)
    assert answer.choices[0].text == by_ids.choices[0].text
    assert answer.usage is not None
    ends = [TOKENIZER.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")]
    expected = reference_ids(reference, ids, 12, end_token=ends)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), len(expected))


def test_length_is_exact(endless_client: openai.OpenAI) -> None:
    for limit in (1, 2, 37):
        answer = endless_client.completions.create(model=NAME, prompt="a", max_tokens=limit, temperature=1)
        assert answer.usage is not None
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (limit, "length")


def test_the_context_ends_a_generation(endless_client: openai.OpenAI) -> None:
    ids = encode_text(TOKENIZER, "Python " * 1_100)[:1_020]
    answer = endless_client.completions.create(model=NAME, prompt=ids, max_tokens=50, temperature=0)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1_020, 4)
    for size in (1_024, 3_000):
        with pytest.raises(openai.BadRequestError) as caught:
            endless_client.completions.create(model=NAME, prompt=[300] * size, max_tokens=5)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


def test_a_stop_string_ends_at_its_token_and_is_not_shown(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {
        "model": NAME,
        "messages": [{"role": "user", "content": "What is Penstock?"}],
        "temperature": 0,
    }
    whole = client.chat.completions.create(**ask, max_tokens=40)
    text = whole.choices[0].message.content or ""
    stop = text[8:14]
    assert len(stop) == 6
    first = text.index(stop)
    for stops in (stop, ["never seen", stop]):
        chunks = list(client.chat.completions.create(**ask, stop=stops, stream=True, stream_options=EXACT))
        shown = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        assert shown == text[:first]
        assert chunks[-2].choices[0].finish_reason == "stop"
        usage = chunks[-1].usage
        assert usage is not None
        tokens = encode_text(TOKENIZER, text[: first + len(stop)])
        assert abs(usage.completion_tokens - len(tokens)) <= 1  # the last token may reach beyond the stop


def test_a_seed_repeats_and_no_seed_does_not(client: openai.OpenAI) -> None:
    def write(**options: Any) -> str:
        return (
            client.completions.create(model=NAME, prompt="The", max_tokens=24, temperature=1, **options)
            .choices[0]
            .text
        )

    assert write(seed=7) == write(seed=7)
    assert write(seed=7) != write(seed=8)
    assert len({write() for _ in range(4)}) > 1
    assert (
        write(top_p=0.000001)
        == client.completions.create(model=NAME, prompt="The", max_tokens=24, temperature=0).choices[0].text
    )


def test_requests_make_progress_together(endless: Any) -> None:
    began, ended = [threading.Event() for _ in range(3)], []
    before_any_end: list[bool] = []

    def read(number: int) -> None:
        body = {"model": NAME, "prompt": "a", "max_tokens": 300, "stream": True}
        with httpx.stream("POST", f"{endless.url}/v1/completions", json=body, timeout=30) as stream:
            for count, _ in enumerate(events(stream)):
                if count == 5:
                    before_any_end.append(not ended)
                    began[number].set()
        ended.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert before_any_end == [True, True, True]


def test_cancel_ends_the_stream_with_the_exact_count(endless: Any) -> None:
    before = endless.metric("completion_tokens_total")
    body = {"model": NAME, "prompt": "a", "max_tokens": 1_000, "stream": True, "stream_options": EXACT}
    seen: list[dict[str, Any]] = []
    with httpx.stream(
        "POST", f"{endless.url}/v1/completions", json=body, headers={"x-request-id": "stop-me"}
    ) as stream:
        assert stream.headers["x-request-id"] == "stop-me"
        for event in events(stream):
            seen.append(event)
            if len(seen) == 10:
                answer = httpx.post(f"{endless.url}/internal/cancel", json={"id": "stop-me"}).json()
                assert answer == {"id": "stop-me", "cancelled": 1}
    assert seen[-2]["choices"][0]["finish_reason"] == "cancelled"
    usage = seen[-1]["usage"]
    assert 10 <= usage["completion_tokens"] < 900
    assert usage["completion_tokens"] == len(seen) - 2  # one chunk for each token
    assert endless.metric("completion_tokens_total") - before == usage["completion_tokens"]
    assert httpx.post(f"{endless.url}/internal/cancel", json={"id": "stop-me"}).json()["cancelled"] == 0


def test_cancel_of_a_whole_answer_returns_what_there_is(endless: Any) -> None:
    answers: list[httpx.Response] = []
    body = {"model": NAME, "prompt": "a", "max_tokens": 1_000}
    headers = {"x-request-id": "whole"}
    thread = threading.Thread(
        target=lambda: answers.append(
            httpx.post(f"{endless.url}/v1/completions", json=body, headers=headers, timeout=30)
        )
    )
    thread.start()
    until(lambda: endless.metric("requests_running") == 1)
    httpx.post(f"{endless.url}/internal/cancel", json={"id": "whole"})
    thread.join(30)
    answer = answers[0].json()
    assert answer["choices"][0]["finish_reason"] == "cancelled"
    assert 0 < answer["usage"]["completion_tokens"] < 1_000


def test_a_disconnect_stops_the_engine_and_every_token_is_counted(endless: Any) -> None:
    before, requests = endless.metric("completion_tokens_total"), endless.metric("requests_total")
    connection = raw_stream(endless, {"prompt": "a", "max_tokens": 1_000})
    received = b""
    while received.count(b"data: ") < 6:
        received += connection.recv(4096)
    connection.close()
    endless.settle()
    generated = endless.metric("completion_tokens_total") - before
    assert 6 <= generated < 900
    assert endless.metric("requests_total") == requests + 1
    time.sleep(0.1)
    assert endless.metric("completion_tokens_total") - before == generated  # it really stopped


def test_a_full_queue_is_refused_and_a_waiting_request_costs_nothing(start: Any, endless_model: Path) -> None:
    small = start(endless_model, "--parallel", "1", "--queue", "1")
    first = raw_stream(small, {"prompt": "a", "max_tokens": 1_000}, "first")
    until(lambda: small.metric("requests_running") == 1)
    second = raw_stream(small, {"prompt": "a b c", "max_tokens": 1_000}, "second")
    until(lambda: small.metric("requests_waiting") == 1)
    third = httpx.post(f"{small.url}/v1/completions", json={"model": NAME, "prompt": "a"})
    assert (third.status_code, third.headers["retry-after"]) == (503, "1")
    assert third.json()["error"]["code"] == "queue_full"
    httpx.post(f"{small.url}/internal/cancel", json={"id": "second"})
    answer = b""
    while not answer.endswith(b"0\r\n\r\n"):
        answer += second.recv(4096)
    assert b'"finish_reason":"cancelled"' in answer
    assert b'"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}' in answer
    first.close()
    second.close()
    small.settle()
    assert small.metric("prompt_tokens_total") == len(encode_text(TOKENIZER, "a"))


def test_sigterm_lets_running_work_end(start: Any, endless_model: Path) -> None:
    server = start(endless_model)
    body = {"model": NAME, "prompt": "a", "max_tokens": 200, "stream": True, "stream_options": EXACT}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as stream:
        seen = events(stream)
        next(seen)
        server.process.send_signal(signal.SIGTERM)
        last = list(seen)[-1]
    assert last["usage"]["completion_tokens"] == 200
    assert server.process.wait(timeout=10) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_sigterm_cuts_what_would_take_too_long(start: Any, endless_model: Path) -> None:
    server = start(endless_model, "--parallel", "1")
    with contextlib.ExitStack() as open_streams:
        streams = [
            open_streams.enter_context(raw_stream(server, {"prompt": "a", "max_tokens": 1_000}, f"r{number}"))
            for number in range(40)
        ]
        until(lambda: server.metric("requests_waiting") == len(streams) - 1)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
        assert time.monotonic() - began > 4.0  # what runs gets its time before it is cut
        last = b""
        while piece := streams[-1].recv(65536):
            last += piece
    assert b'"finish_reason":"cancelled"' in last
    assert last.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_model_without_a_manifest_finds_its_template_and_its_end(start: Any, tmp_path: Path) -> None:
    model = tmp_path / "bare"
    shutil.copytree(demo_model_dir(), model)
    (model / "manifest.json").unlink()
    server = start(model)
    body = {"model": NAME, "messages": HELLO, "temperature": 0, "max_tokens": 100}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == len(
        TEMPLATES["chatml"].prompt(TOKENIZER, [Message("user", "Hello")])
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", b"", 404, "not_found"),
        ("GET", "/v1/completions", b"", 405, "method_not_allowed"),
        ("POST", "/health", b"", 405, "method_not_allowed"),
        ("POST", "/v1/completions", b"{", 400, "invalid_json"),
        ("POST", "/v1/completions", b'{"model":"other","prompt":"a"}', 404, "model_not_found"),
        ("POST", "/v1/completions", b'{"model":"penstock-demo-5m","prompt":""}', 400, "invalid_value"),
        ("POST", "/v1/completions", b'{"model":"penstock-demo-5m","prompt":[4096]}', 400, "invalid_value"),
        ("POST", "/v1/completions", b'{"model":"penstock-demo-5m","prompt":[-1]}', 400, "invalid_value"),
        ("POST", "/v1/completions", b" " * ((1 << 20) + 1), 413, "too_large"),
        ("POST", "/internal/cancel", b'{"id":3}', 400, "invalid_value"),
    ],
)
def test_bad_requests_get_openais_error_shape(
    server: Any, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    answer = httpx.request(method, server.url + path, content=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}
    assert httpx.get(f"{server.url}/health").status_code == 200


def exchange(server: Any, data: bytes) -> bytes:
    """Send raw bytes and return everything until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_what_is_no_http_is_answered_and_closed(server: Any) -> None:
    assert exchange(server, b"\x16\x03\x01 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert exchange(server, b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000).startswith(b"HTTP/1.1 431")
    assert exchange(server, b"POST / HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n").startswith(b"HTTP/1.1 413")


def test_pipelined_and_chunked_requests_are_answered_in_order(server: Any) -> None:
    body = json.dumps({"model": NAME, "prompt": "a", "max_tokens": 2, "temperature": 0}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    generate = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    close = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = exchange(server, generate + b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\n" + close)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.index(b"text_completion") < answer.index(b'"status":"ready"')
    assert answer.count(b'"status":"ready"') == 1  # HEAD has no body


def test_a_client_may_wait_for_the_invitation_to_send(server: Any) -> None:
    body = json.dumps({"model": NAME, "prompt": "a", "max_tokens": 1}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_only_the_loopback_interface_is_served(server: Any) -> None:
    listening = f":{server.port:04X} "
    lines = [
        line
        for line in Path("/proc/net/tcp").read_text().splitlines()
        if listening in line.split(None, 2)[1] + " "
    ]
    assert [line.split()[1].split(":")[0] for line in lines if line.split()[3] == "0A"] == ["0100007F"]


def test_the_process_stays_small(start: Any) -> None:
    status = Path(f"/proc/{start(demo_model_dir()).process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    assert int(line.split()[1]) < 90_000  # measured: about 70 MB
