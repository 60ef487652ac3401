"""The HTTPS link against a real TLS server that demands the agent's certificate."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.agent.enrolling_link import INVENTORY_SECONDS, EnrollingLink
from penstock.agent.https_link import PUSH_BYTES_MAX, RENEW_RETRY_SECONDS, HttpsLink
from penstock.agent.identity import IdentityFolder
from penstock.agent.join import join
from penstock.agent.link import Item
from penstock.agent.loop import Agent
from penstock.base import limits
from penstock.base.clock import ManualClock, SystemClock
from penstock.base.errors import (
    ConflictError,
    InvalidInputError,
    StartupError,
    UnauthenticatedError,
    UnavailableError,
)
from penstock.base.ids import new_id
from penstock.domain.device import load_device_classes
from penstock.domain.host_log import LogLine
from penstock.drivers import wire
from penstock.drivers.base import NodeFacts, Observed, Phase, PortCount, Reading, Traffic
from penstock.drivers.pki import FactoryCa, certificates
from penstock.drivers.simulated.driver import SimulatedDriver
from penstock.drivers.simulated.site import parse_site
from tests.support.agent_listener import Factory, listening
from tests.support.waiting import until

Joined = tuple[Factory, IdentityFolder]
START = datetime(2026, 1, 1, tzinfo=UTC)
NODE = NodeFacts("node-7", "x86_64", "cpu", 4, 8, 1 << 30, notes=("no GPU found",))


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[Joined]:
    folder = IdentityFolder(tmp_path / "identity")
    with listening(tmp_path / "ca") as (factory, url):
        join(folder, url=url, token=factory.new_token(), name="node-7", site="hall-2")
        factory.requests.clear()
        factory.bodies.clear()
        yield factory, folder


@pytest.fixture
def link(joined: Joined) -> Iterator[HttpsLink]:
    made = HttpsLink(joined[1], SystemClock())
    yield made
    made.close()


def a_wish(generation: int = 1) -> wire.Wish:
    config = {"node": "r01t01", "devices": [{"index": 0, "mask": 127}]}
    return wire.Wish(new_id("allocation", START), "r01t01", "simulated", generation, "present", config)


def a_report(**changes: Any) -> Observed:
    return Observed(new_id("allocation", START), 1, Phase.READY, **changes)


def test_wishes_and_reports_go_their_way(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    wish = a_wish()
    factory.want(wish)
    pulled = link.pull(0, 0.0)
    assert pulled.full
    assert list(pulled.items) == [Item(wish.allocation_id, "r01t01", "simulated", 1, "present", wish.config)]
    again = link.pull(pulled.cursor, 0.0)
    assert (again.full, list(again.items)) == (False, [])
    report = a_report(at_us={"started": 1, "ready": 2}, endpoint="http://127.0.0.1:1", busy_permille=7)
    link.push([report], ["r01t02"])
    assert factory.observed == [report]
    assert factory.silent == ["r01t02"]


def test_power_is_told_and_wishes_come_back(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    assert link.push_power({"node-7": "on", "node-8": "waking"}) == {"node-7": False}
    assert factory.powered == {"node-7": "on", "node-8": "waking"}


def test_readings_of_sensors_go_their_way(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    said = [Reading("node-7", 0, 312, 61), Reading("node-7", 1, None, 40)]
    link.push_readings(said)
    assert factory.readings == said


def test_what_networks_carried_goes_its_way(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    said = Traffic([], [PortCount("prt_1", 1, 2, 3, 4, 5, 6)], 7)
    link.push_traffic(said)
    assert factory.traffic == said


def test_lines_of_logs_go_their_way(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    said = [LogLine("agent", "r", 1, 2, "info", "x"), LogLine("libvirtd", "f", 3, 4, "error", "")]
    link.push_log(said)
    assert factory.log == said


def test_what_is_there_is_enrolled_with_its_drivers_and_site(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    assert link.enroll([NODE], {"node-7": ("ctranslate2",)}) == {"node-7": "nod_node-7"}
    assert factory.enrolments == [wire.Enrolment("hall-2", (NODE,), {"node-7": ("ctranslate2",)})]


def test_where_it_is_reached_is_said_at_enrolment(joined: Joined) -> None:
    factory, folder = joined
    link = HttpsLink(folder, SystemClock(), "10.0.0.17")
    link.enroll([NODE], {})
    assert factory.enrolments[0].serve_host == "10.0.0.17"
    link.close()


def test_a_certificate_without_the_relays_name_is_renewed_at_the_start_and_only_then(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory, folder = joined
    agent_id = folder.load().agent_id
    assert folder.answers_for(agent_id)
    assert not folder.answers_for(new_id("agent", START))
    clock = ManualClock(SystemClock().now())
    link = HttpsLink(folder, clock)
    link.pull(0, 0.0)
    link.close()
    assert factory.requests.count("POST /v1/agents/renew") == 0
    monkeypatch.setattr(IdentityFolder, "answers_for", lambda *_: False)  # as one from before relays
    before = folder.certificate_file.read_bytes()
    link = HttpsLink(folder, clock)
    for _ in range(3):
        link.pull(0, 0.0)
        clock.advance(timedelta(seconds=RENEW_RETRY_SECONDS + 1))
    link.close()
    assert factory.requests.count("POST /v1/agents/renew") == 1
    assert folder.certificate_file.read_bytes() != before


def test_an_agent_cannot_pretend_to_be_the_control_plane(joined: Joined, tmp_path: Path) -> None:
    factory, folder = joined
    impostor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    impostor.load_cert_chain(folder.certificate_file)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError), connection:  # the victim hangs up on it
            impostor.wrap_socket(connection, server_side=True)

    thread = threading.Thread(target=answer)
    thread.start()
    victim = IdentityFolder(tmp_path / "victim")
    known = folder.load()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    key = certificates.new_key()
    signed = factory.ca.sign_agent_csr(certificates.new_request(key, "v"), known.agent_id, timedelta(hours=1))
    victim.save(replace(known, url=url), factory.ca.ca_pem, signed.pem, key)
    link = HttpsLink(victim, SystemClock())
    with pytest.raises(UnavailableError, match="is not the factory"):
        link.pull(0, 0.0)
    thread.join(10)
    link.close()
    listener.close()


def test_a_long_poll_ends_when_something_is_wanted(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    factory.want(a_wish())
    cursor = link.pull(0, 0.0).cursor
    timer = threading.Timer(0.3, lambda: factory.want(a_wish()))
    timer.start()
    began = time.monotonic()
    assert len(link.pull(cursor, 15.0).items) == 1
    assert 0.2 < time.monotonic() - began < 10
    timer.join()
    began = time.monotonic()
    assert link.pull(cursor + 1, 0.2).items == []
    assert time.monotonic() - began >= 0.15


def test_an_agent_without_its_certificate_or_with_a_foreign_one_is_refused(
    joined: Joined, tmp_path: Path
) -> None:
    factory, folder = joined
    other = FactoryCa(tmp_path / "other-ca", SystemClock())
    other.ensure()
    key = certificates.new_key()
    agent_id = folder.load().agent_id
    stranger = other.sign_agent_csr(certificates.new_request(key, "x"), agent_id, timedelta(days=1))
    folder.replace_certificate(stranger.pem, key)
    link = HttpsLink(folder, SystemClock())
    with pytest.raises(UnavailableError):
        link.pull(0, 0.0)
    link.close()
    assert factory.requests == []


def test_a_revoked_agent_is_told_so(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    factory.agents.clear()
    with pytest.raises(UnauthenticatedError, match="revoked"):
        link.pull(0, 0.0)


def test_an_expired_certificate_says_what_to_do(joined: Joined) -> None:
    factory, folder = joined
    key = certificates.new_key()
    past = FactoryCa(folder.folder.parent / "ca", ManualClock(datetime.now(UTC) - timedelta(days=3)))  # noqa: TID251 - TLS looks at the real time
    past.ensure()
    signed = past.sign_agent_csr(
        certificates.new_request(key, "x"), folder.load().agent_id, timedelta(days=1)
    )
    folder.replace_certificate(signed.pem, key)
    link = HttpsLink(folder, SystemClock())
    with pytest.raises(UnavailableError, match=r"expired.*join again"):
        link.pull(0, 0.0)
    link.close()
    assert factory.requests == []


def test_the_certificate_is_renewed_at_half_life_and_the_new_one_is_shown(joined: Joined) -> None:
    factory, folder = joined
    clock = ManualClock(SystemClock().now())
    link = HttpsLink(folder, clock)
    before = (folder.folder / "agent.pem").read_bytes()
    link.pull(0, 0.0)
    assert "POST /v1/agents/renew" not in factory.requests
    clock.advance(timedelta(hours=12, minutes=5))
    link.pull(0, 0.0)
    assert factory.requests.count("POST /v1/agents/renew") == 1
    assert (folder.folder / "agent.pem").read_bytes() != before
    link.pull(0, 0.0)  # the listener knows the new certificate only
    link.close()
    again = HttpsLink(folder, clock)
    again.pull(0, 0.0)
    again.close()


def test_a_renewal_that_fails_costs_nothing_and_is_tried_again(joined: Joined) -> None:
    factory, folder = joined
    clock = ManualClock(SystemClock().now())
    link = HttpsLink(folder, clock)
    factory.refuses["/v1/agents/renew"] = UnavailableError("not now")
    clock.advance(timedelta(hours=13))
    link.pull(0, 0.0)
    link.pull(0, 0.0)
    assert factory.requests.count("POST /v1/agents/renew") == 1
    factory.refuses.clear()
    clock.advance(timedelta(seconds=RENEW_RETRY_SECONDS))
    before = (folder.folder / "agent.pem").read_bytes()
    link.pull(0, 0.0)
    assert factory.requests.count("POST /v1/agents/renew") == 2
    assert (folder.folder / "agent.pem").read_bytes() != before
    link.close()


def test_the_control_planes_errors_keep_their_code_field_and_sentence(
    joined: Joined, link: HttpsLink
) -> None:
    factory, _ = joined
    factory.refuses["/v1/agents/self/enroll"] = ConflictError(
        "node 'n' belongs to another", field="nodes.0.name"
    )
    with pytest.raises(ConflictError) as caught:
        link.enroll([NODE], {})
    assert (caught.value.sentence, caught.value.field) == ("node 'n' belongs to another", "nodes.0.name")


def test_a_connection_that_was_closed_meanwhile_is_made_anew(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    factory.hang_up_after_answer = True
    for _ in range(3):
        link.pull(0, 0.0)
    assert factory.requests == ["GET /v1/agents/self/allocations"] * 3


def test_a_call_that_died_on_a_closing_connection_is_made_once_more(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    link.pull(0, 0.0)
    factory.hang_ups_instead_of_answers = 1
    link.pull(0, 0.0)
    factory.hang_ups_instead_of_answers = 2
    with pytest.raises(UnavailableError, match="cannot be reached"):
        link.pull(0, 0.0)


def test_reports_too_large_for_one_body_go_in_several(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    reports = [a_report(code="x", message="m" * 2_000) for _ in range(limits.AGENT_PULL_BATCH)]
    large = [Observed(r.allocation_id, 1, Phase.FAILED, message="ä" * 2_000) for r in reports]
    link.push(large, [])
    assert len(factory.observed) == limits.AGENT_PULL_BATCH
    assert len(factory.bodies) > 1
    assert max(factory.bodies) <= PUSH_BYTES_MAX < limits.BODY_BYTES_MAX


def test_a_report_that_cannot_be_read_does_not_keep_the_others_back(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    good = [a_report() for _ in range(5)]
    link.push([*good[:2], a_report(code="unreadable"), *good[2:]], ["n"])
    assert factory.observed == good
    assert factory.silent == ["n"]
    factory.refuses["/v1/agents/self/observations"] = InvalidInputError("no such node", field="silent_nodes")
    with pytest.raises(InvalidInputError):
        link.push([], ["n"])


def test_nobody_there_is_unavailable(joined: Joined) -> None:
    _, folder = joined
    identity = folder.load()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = (folder.folder / "identity.json").read_text()
    (folder.folder / "identity.json").write_text(text.replace(identity.url, f"https://127.0.0.1:{port}"))
    link = HttpsLink(folder, SystemClock())
    with pytest.raises(UnavailableError, match="cannot be reached"):
        link.pull(0, 0.0)
    link.close()


def test_an_identity_that_vanishes_is_an_error_with_a_sentence(joined: Joined, link: HttpsLink) -> None:
    _, folder = joined
    (folder.folder / "agent.pem").unlink()
    with pytest.raises(StartupError, match=r"agent\.pem"):
        link.pull(0, 0.0)


def test_the_hardware_is_told_first_and_again_when_it_changes(joined: Joined, link: HttpsLink) -> None:
    factory, _ = joined
    clock = ManualClock(START)
    found = [NODE]
    enrolling = EnrollingLink(link, lambda: list(found), lambda: ["ctranslate2"], clock)
    factory.refuses["/v1/agents/self/enroll"] = UnavailableError("not now")
    with pytest.raises(UnavailableError):
        enrolling.pull(0, 0.0)
    factory.refuses.clear()
    enrolling.pull(0, 0.0)
    assert factory.requests[-2:] == ["POST /v1/agents/self/enroll", "GET /v1/agents/self/allocations"]
    for _ in range(3):
        clock.advance(timedelta(seconds=INVENTORY_SECONDS))
        enrolling.pull(0, 0.0)
    assert len(factory.enrolments) == 1
    found[0] = NodeFacts("node-7", "x86_64", "cpu", 4, 8, 1 << 29)
    enrolling.pull(0, 0.0)
    assert len(factory.enrolments) == 1
    clock.advance(timedelta(seconds=INVENTORY_SECONDS))
    enrolling.pull(0, 0.0)
    assert factory.enrolments[-1].nodes[0].memory_bytes == 1 << 29


def test_an_agent_drives_over_the_link(joined: Joined, link: HttpsLink, tmp_path: Path) -> None:
    factory, _ = joined
    clock = SystemClock()
    driver = SimulatedDriver(tmp_path / "world", clock, parse_site("2x4:H100", load_device_classes()))
    stop = threading.Event()
    thread = threading.Thread(target=Agent(link, {"simulated": driver}, clock).run, args=(stop,))
    thread.start()
    try:
        until(
            lambda: "GET /v1/agents/self/allocations" in factory.requests, "it asks while nothing is wanted"
        )
        wish = a_wish()
        factory.want(wish)
        until(lambda: factory.phases(wish.allocation_id) == ["ready"])
        gone = wire.Wish(wish.allocation_id, wish.node, wish.driver, 2, "absent", wish.config)
        factory.want(gone)
        until(lambda: factory.phases(wish.allocation_id) == ["ready", "absent"])
    finally:
        stop.set()
        thread.join(timeout=20)
        driver.close()
    assert not thread.is_alive()
