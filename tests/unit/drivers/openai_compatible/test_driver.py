"""What only this driver promises: verified TLS, judged addresses, sealed keys, patience with a peer that was there."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import Clock, ManualClock, SystemClock
from penstock.drivers.base import Observed, Phase, Wanted
from penstock.drivers.openai_compatible.config import PeerConfig
from penstock.drivers.openai_compatible.driver import OpenAICompatibleDriver
from penstock.drivers.openai_compatible.peer import look
from tests.support.certificates import self_signed
from tests.support.peer import Peer
from tests.support.waiting import poll

LOOPBACK = (ip_network("127.0.0.0/8"),)
ALLOCATION = "alc_01k9zzzzzzzzzzzzzzzzzzzzzz"


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.setenv("PENSTOCK_UPSTREAM_NETWORKS", "127.0.0.0/8")
    made = Peer()
    yield made
    made.close()


def wanted(peer: Peer, generation: int = 1, **changes: Any) -> Wanted:
    return Wanted(
        ALLOCATION, generation, {"url": f"http://127.0.0.1:{peer.port}", "served_model_name": "m", **changes}
    )


def driver(folder: Path, clock: Clock | None = None, secret: str | None = None) -> OpenAICompatibleDriver:
    return OpenAICompatibleDriver(folder, clock or SystemClock(), lambda _: secret, allowed=LOOPBACK)


def test_the_secret_is_shown_to_the_peer_and_lies_nowhere(peer: Peer, tmp_path: Path) -> None:
    under_test = driver(tmp_path, secret="sk-very-secret")
    ready = poll(
        lambda: under_test.ensure(wanted(peer, secret="theirs")), lambda one: one.phase is Phase.READY
    )
    assert ready.endpoint == f"http://127.0.0.1:{peer.port}/v1"
    assert set(peer.seen) == {"Bearer sk-very-secret"}
    assert all("sk-very" not in file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    gone = driver(tmp_path, secret=None)
    lost = poll(
        lambda: gone.ensure(wanted(peer, 2, secret="theirs")), lambda one: "secret" in (one.message or "")
    )
    assert lost.phase is Phase.STARTED  # it was there: it waits for its secret instead of ending


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, b"", "peer_refused"),
        (403, b"", "peer_refused"),
        (200, b"<html>", "peer_broken"),
        (200, b"[]", "peer_broken"),
    ],
)
def test_what_will_not_come_by_itself_fails_with_a_reason(
    peer: Peer, tmp_path: Path, status: int, body: bytes, code: str
) -> None:
    peer.status, peer.body = status, body
    under_test = driver(tmp_path)
    failed = poll(lambda: under_test.ensure(wanted(peer)), lambda one: one.phase is Phase.FAILED)
    assert failed.code == code
    peer.status, peer.body = 200, b'{"data": [{"id": "m"}]}'
    poll(lambda: under_test.ensure(wanted(peer, 2)), lambda one: one.phase is Phase.READY)  # a new generation


def test_a_model_that_is_not_there_yet_is_waited_for(peer: Peer, tmp_path: Path) -> None:
    under_test = driver(tmp_path)
    wish = wanted(peer, served_model_name="absent")
    waiting = poll(lambda: under_test.ensure(wish), lambda one: "lists: m, other" in (one.message or ""))
    assert waiting.phase is Phase.STARTED
    peer.body = b'{"data": [{"id": "absent"}]}'
    poll(lambda: under_test.ensure(wish), lambda one: one.phase is Phase.READY)


def test_a_peer_that_falls_silent_is_left_after_three_looks_and_comes_back(
    peer: Peer, tmp_path: Path
) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    under_test = driver(tmp_path, clock)
    first = poll(lambda: under_test.ensure(wanted(peer)), lambda one: one.phase is Phase.READY)
    peer.status = 500
    looks = len(peer.seen)

    def later() -> Observed:
        clock.advance(timedelta(seconds=16))
        return under_test.observe()[0]

    silent = poll(later, lambda one: one.phase is Phase.STARTED)
    assert len(peer.seen) - looks >= 3
    assert "500" in (silent.message or "")
    peer.status = 200
    back = poll(later, lambda one: one.phase is Phase.READY)
    assert back.at_us == first.at_us


def test_a_name_that_leads_inside_is_refused_whatever_it_is_called() -> None:
    assert look(PeerConfig("https://localhost/v1", "m"), None, ()).code == "peer_not_permitted"


def test_a_certificate_that_cannot_be_verified_is_not_talked_to(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "peer")
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(certificate, key)
    peer = Peer(own)
    try:
        config = PeerConfig(f"https://127.0.0.1:{peer.port}", "m")
        verdict = look(config, "sk-secret", LOOPBACK)
        assert (verdict.code, "certificate" in verdict.message) == ("peer_silent", True)
        assert peer.seen == []
        trusting = ssl.create_default_context(cafile=str(certificate))
        assert look(config, "sk-secret", LOOPBACK, trusting).code is None
        assert peer.seen == ["Bearer sk-secret"]
    finally:
        peer.close()
