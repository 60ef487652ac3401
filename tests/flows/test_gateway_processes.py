"""Several gateway processes on one port: one set of limits, one page of metrics, no request lost to a dead one."""

import concurrent.futures
import http.client
import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.certificates import self_signed
from tests.support.gateway_peers import (
    ControlPlane,
    Engine,
    Gateway,
    ask,
    completions,
    configuration,
    factory_arguments,
    key_entry,
    ledger,
    model_entry,
    upstream,
)
from tests.support.waiting import until


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    process = Engine(tmp_path)
    yield process
    process.stop()


def started(folder: Path, engine: Engine, *, key: str = "", processes: int = 3) -> Gateway:
    config = configuration(folder, [upstream(engine)], key=key)
    return Gateway(folder, "--config", str(config), "--processes", str(processes))


def children(gateway: Gateway) -> list[int]:
    return sorted(child.pid for child in psutil.Process(gateway.process.pid).children())


def billed(folder: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in [folder / "ledger", *(folder / "ledger").glob("process-*")]:
        found |= ledger(path)
    return found


def parallel(port: int, count: int, body: dict[str, Any]) -> list[tuple[int, dict[str, str], Any]]:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: completions(port, body), range(count)))


@pytest.mark.parametrize(
    ("limit", "body", "admitted"),
    [
        ("requests_per_minute = 50", ask(max_tokens=5), 50),
        # 8 + 1 estimated for the prompt, 91 for the answer: 100 a request, all of them generated.
        ("tokens_per_minute = 1500", ask("abc", max_tokens=91, mock={"tokens": 91, "itl_ms": 2}), 15),
        ("tokens_per_day = 1500", ask("abc", max_tokens=91, mock={"tokens": 91, "itl_ms": 2}), 15),
    ],
)
def test_128_clients_get_together_exactly_what_is_allowed(
    tmp_path: Path, engine: Engine, limit: str, body: dict[str, Any], admitted: int
) -> None:
    gateway = started(tmp_path, engine, key=limit)
    try:
        answers = parallel(gateway.port, 128, body)
        statuses = [status for status, _, _ in answers]
        assert (statuses.count(200), statuses.count(429)) == (admitted, 128 - admitted)
        assert all("retry-after" in headers for status, headers, _ in answers if status == 429)
    finally:
        assert gateway.stop() == 0
    records = billed(tmp_path)
    assert {i: [r["prompt_tokens"], r["completion_tokens"]] for i, r in records.items()} == engine.counts()
    used = [path for path in (tmp_path / "ledger").glob("process-*") if ledger(path)]
    assert len(used) > 1, "one process served all of it, so this test showed nothing"


def test_a_process_that_dies_is_replaced_and_counts_go_on(tmp_path: Path, engine: Engine) -> None:
    gateway = started(tmp_path, engine, key="requests_per_minute = 40")
    try:
        assert all(status == 200 for status, _, _ in parallel(gateway.port, 20, ask(max_tokens=1)))
        before = children(gateway)
        os.kill(before[0], signal.SIGKILL)

        def replaced() -> bool:
            now = children(gateway)
            return len(now) == 3 and before[0] not in now

        until(replaced, "another process serves in its place")
        until(lambda: shown(gateway) == {"0", "1", "2"}, "all three show their metrics")
        statuses = [status for status, _, _ in parallel(gateway.port, 40, ask(max_tokens=1))]
        assert statuses.count(200) == 20
    finally:
        assert gateway.stop() == 0
    assert len(billed(tmp_path)) == 40


def shown(gateway: Gateway) -> set[str]:
    """Return the processes in the metrics that one connection gets."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return {
        line.split('"')[1] for line in text.splitlines() if line.startswith("penstock_gateway_retries_total{")
    }


def test_children_end_when_their_parent_is_killed(tmp_path: Path, engine: Engine) -> None:
    gateway = started(tmp_path, engine)
    orphans = children(gateway)
    gateway.kill()
    until(lambda: not any(psutil.pid_exists(pid) for pid in orphans), "the children drained and ended")


def test_a_revoked_key_is_refused_everywhere_and_a_wrong_file_changes_nothing(
    tmp_path: Path, engine: Engine
) -> None:
    gateway = started(tmp_path, engine)
    path = tmp_path / "gateway.toml"
    try:
        assert completions(gateway.port, ask(max_tokens=1))[0] == 200
        text = path.read_text()
        path.write_text("[[keys]]")
        other = tmp_path / "next.toml"
        other.write_text(text.replace('key = "sk-test"', 'key = "sk-new"'))
        other.replace(path)

        def refused() -> bool:
            found = parallel(gateway.port, 24, ask(max_tokens=1))
            return {status for status, _, _ in found} == {401}

        until(refused, "every process refuses it")
        assert completions(gateway.port, ask(max_tokens=1), key="sk-new")[0] == 200
    finally:
        gateway.stop()


def test_in_a_factory_every_process_hears_of_keys_and_all_hold_their_limits_together(
    tmp_path: Path, engine: Engine
) -> None:
    plane = ControlPlane()
    plane.publish(
        keys=[key_entry("sk-test", requests_per_minute=40)], models=[model_entry(engine.base, model="m")]
    )
    plane.start()
    gateway = Gateway(tmp_path, *factory_arguments(tmp_path, plane), "--processes", "3")
    try:
        # A new connection goes to any of them.
        until(lambda: all(gateway.get("/healthz")["status"] == "ok" for _ in range(24)), "all serve")
        statuses = [status for status, _, _ in parallel(gateway.port, 64, ask(max_tokens=2))]
        assert sorted(statuses) == [200] * 40 + [429] * 24
        plane.publish(keys=[])
        until(
            lambda: {status for status, _, _ in parallel(gateway.port, 24, ask(max_tokens=2))} == {401},
            "every process refuses the key",
        )
        assert gateway.stop() == 0
        billed = {
            name: [one["prompt_tokens"], one["completion_tokens"]] for name, one in plane.records.items()
        }
        assert billed == engine.counts()
        assert plane.duplicates == 0
    finally:
        gateway.stop()
        plane.stop()


def test_fewer_processes_deliver_what_more_have_left(tmp_path: Path, engine: Engine) -> None:
    gateway = started(tmp_path, engine, key="tokens_per_day = 100000")
    parallel(gateway.port, 30, ask(max_tokens=2))
    gateway.stop()
    before = billed(tmp_path)
    alone = Gateway(tmp_path, "--config", str(tmp_path / "gateway.toml"))
    try:
        assert ledger(tmp_path / "ledger") == before
        assert len(before) == 30
    finally:
        alone.stop()


@pytest.mark.parametrize("processes", [1, 2])
def test_https_with_a_certificate_that_is_replaced(tmp_path: Path, engine: Engine, processes: int) -> None:
    pem, key = self_signed(tmp_path, "one")
    config = configuration(tmp_path, [upstream(engine)])
    config.write_text(
        f"processes = {processes}\n{config.read_text()}\n[tls]\ncertificate = 'one.pem'\nkey = 'one.key'\n"
    )
    gateway = Gateway(tmp_path, "--config", str(config))

    def certificate(trusted: Path) -> bytes | None:
        context = ssl.create_default_context(cafile=str(trusted))
        connection = http.client.HTTPSConnection("127.0.0.1", gateway.port, timeout=10, context=context)
        try:
            connection.connect()
            found = connection.sock.getpeercert(binary_form=True)
            connection.request("GET", "/v1/none")
            answer = connection.getresponse()
            assert (answer.status, b"unknown_url" in answer.read()) == (404, True)
            connection.request("GET", "/v1/models", headers={"authorization": "Bearer sk-test"})
            assert connection.getresponse().status == 200
        except ssl.SSLCertVerificationError:
            return None
        else:
            return bytes(found or b"")
        finally:
            connection.close()

    try:
        first = certificate(pem)
        assert first
        new_pem, new_key = self_signed(tmp_path, "two")
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(new_pem.read_bytes())
        new_pem.replace(pem)
        new_key.replace(key)
        until(lambda: certificate(trusted), "the new certificate is served")
        assert certificate(trusted) != first
        assert gateway.process.poll() is None
    finally:
        assert gateway.stop() == 0
