"""The factory's authority: what it signs, what it refuses, and what of it lies on the disk."""

import ipaddress
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from penstock.base.clock import ManualClock
from penstock.base.errors import InvalidInputError, StartupError
from penstock.base.ids import new_id
from penstock.drivers.pki import SERVER_NAME, FactoryCa, read_agent_certificate, relay_name
from penstock.drivers.pki.authority import AUTHORITY_LIFE, GATEWAY_CERTIFICATE_LIFE, SERVER_CERTIFICATE_LIFE
from penstock.drivers.pki.certificates import new_key, new_request

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
AGENT = new_id("agent", START)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def ca(tmp_path: Path, clock: ManualClock) -> FactoryCa:
    made = FactoryCa(tmp_path / "ca", clock)
    made.ensure()
    return made


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def der(pem: str) -> bytes:
    return certificate(pem).public_bytes(serialization.Encoding.DER)


def test_it_is_made_once_and_kept(tmp_path: Path, clock: ManualClock, ca: FactoryCa) -> None:
    clock.advance(DAY)
    again = FactoryCa(tmp_path / "ca", clock)
    again.ensure()
    assert again.ca_pem == ca.ca_pem
    assert again.fingerprint == ca.fingerprint
    assert ca.fingerprint == certificate(ca.ca_pem).fingerprint(hashes.SHA256()).hex()


def test_whoever_comes_first_makes_it(tmp_path: Path, clock: ManualClock) -> None:
    found: list[str] = []
    gate = threading.Barrier(8)

    def come() -> None:
        mine = FactoryCa(tmp_path / "ca", clock)
        gate.wait()
        mine.ensure()
        found.append(mine.fingerprint)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "ca").iterdir()] == ["authority.pem"]


def test_keys_are_private(tmp_path: Path, ca: FactoryCa) -> None:
    ca.server_certificate(["localhost"])
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    for file in (tmp_path / "ca").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert "PRIVATE" not in ca.ca_pem


def test_an_agents_certificate_names_the_agent_and_nothing_the_request_said(ca: FactoryCa) -> None:
    signed = ca.sign_agent_csr(new_request(new_key(), "root"), AGENT, DAY)
    identity = read_agent_certificate(der(signed.pem))
    assert identity.agent_id == AGENT
    assert identity.sha256 == signed.sha256
    assert identity.expires_at == signed.expires_at == START + DAY
    assert certificate(signed.pem).subject.rfc4514_string() == f"CN={AGENT}"


def test_an_agent_answers_for_its_own_replicas_and_never_as_the_control_plane(ca: FactoryCa) -> None:
    agent = certificate(ca.sign_agent_csr(new_request(new_key(), "a"), AGENT, DAY).pem)
    policy = PolicyBuilder().store(Store([certificate(ca.ca_pem)])).time(START.replace(tzinfo=None))
    replica, other = new_id("allocation", START), new_id("agent", START)
    policy.build_server_verifier(x509.DNSName(relay_name(replica, AGENT))).verify(agent, [])
    for name in (SERVER_NAME, relay_name(replica, other), AGENT.replace("_", "-"), "127.0.0.1"):
        with pytest.raises(VerificationError):
            policy.build_server_verifier(x509.DNSName(name)).verify(agent, [])


def test_the_gateways_certificate_is_private_kept_and_renewed_at_half_life(
    tmp_path: Path, ca: FactoryCa, clock: ManualClock
) -> None:
    folder = tmp_path / "gateway"
    file, trusted = ca.gateway_certificate(folder)
    assert trusted.read_text() == ca.ca_pem
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    first = file.read_bytes()
    verifier = PolicyBuilder().store(Store([certificate(ca.ca_pem)])).time(START.replace(tzinfo=None))
    verifier.build_client_verifier().verify(certificate(first.decode()), [])
    with pytest.raises(InvalidInputError):
        read_agent_certificate(der(first.decode()))
    clock.advance(GATEWAY_CERTIFICATE_LIFE / 2 - timedelta(hours=1))
    ca.gateway_certificate(folder)
    assert file.read_bytes() == first
    clock.advance(timedelta(hours=2))
    ca.gateway_certificate(folder)
    second = file.read_bytes()
    assert second != first
    file.write_bytes(b"nonsense")
    ca.gateway_certificate(folder)
    assert b"PRIVATE KEY" in file.read_bytes()
    other = FactoryCa(tmp_path / "other", clock)
    other.ensure()
    before = file.read_bytes()
    other.gateway_certificate(folder)
    assert trusted.read_text() == other.ca_pem
    assert file.read_bytes() != before
    assert sorted(path.name for path in folder.iterdir()) == ["agents-ca.pem", "client.pem"]


def test_a_strict_verifier_accepts_both_kinds_for_their_own_purpose_only(
    tmp_path: Path, ca: FactoryCa
) -> None:
    store = Store([certificate(ca.ca_pem)])
    agent = certificate(ca.sign_agent_csr(new_request(new_key(), "a"), AGENT, DAY).pem)
    file, _ = ca.server_certificate(["factory.example", "127.0.0.1"])
    listener = certificate(file.read_text())
    policy = PolicyBuilder().store(store).time(START.replace(tzinfo=None))
    as_client, by_name = policy.build_client_verifier(), policy.build_server_verifier
    assert as_client.verify(agent, []).subjects is not None
    by_name(x509.DNSName("factory.example")).verify(listener, [])
    by_name(x509.IPAddress(ipaddress.ip_address("127.0.0.1"))).verify(listener, [])
    with pytest.raises(VerificationError):
        by_name(x509.DNSName("other.example")).verify(listener, [])
    with pytest.raises(VerificationError):
        as_client.verify(listener, [])
    with pytest.raises(VerificationError):
        by_name(x509.DNSName("factory.example")).verify(agent, [])
    late = PolicyBuilder().store(store).time((START + DAY + timedelta(seconds=1)).replace(tzinfo=None))
    with pytest.raises(VerificationError):
        late.build_client_verifier().verify(agent, [])
    other = FactoryCa(tmp_path / "other", ManualClock(START))
    other.ensure()
    stranger = certificate(other.sign_agent_csr(new_request(new_key(), "a"), AGENT, DAY).pem)
    with pytest.raises(VerificationError):
        as_client.verify(stranger, [])


def rsa_request() -> str:
    key = rsa.generate_private_key(65537, 2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def other_curve_request() -> str:
    return new_request(ec.generate_private_key(ec.SECP384R1()), "a")


def forged_request() -> str:
    """Return a request whose signature was made with another key than the one it asks for."""
    good = x509.load_pem_x509_csr(new_request(new_key(), "a").encode())
    body = bytearray(good.public_bytes(serialization.Encoding.DER))
    body[-1] ^= 1
    return ssl.DER_cert_to_PEM_cert(bytes(body)).replace("CERTIFICATE", "CERTIFICATE REQUEST")


@pytest.mark.parametrize(
    "make",
    [
        rsa_request,
        other_curve_request,
        forged_request,
        lambda: "",
        lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        lambda: "käse",
        lambda: new_request(new_key(), "a") + "x" * 10_000,
    ],
)
def test_a_bad_request_is_refused_by_field(ca: FactoryCa, make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidInputError) as caught:
        ca.sign_agent_csr(make(), AGENT, DAY)
    assert caught.value.field == "csr_pem"


def test_only_an_agents_id_is_certified(ca: FactoryCa) -> None:
    for wrong in ("", "root", new_id("tenant", START)):
        with pytest.raises(InvalidInputError) as caught:
            ca.sign_agent_csr(new_request(new_key(), "a"), wrong, DAY)
        assert caught.value.field == "agent_id"


def test_a_listeners_certificate_is_nobody(ca: FactoryCa) -> None:
    file, _ = ca.server_certificate(["localhost"])
    for wrong in (der(file.read_text()), der(ca.ca_pem), b"", b"\x30\x03abc"):
        with pytest.raises(InvalidInputError):
            read_agent_certificate(wrong)


def test_the_listeners_certificate_is_kept_and_renewed_at_half_life(
    ca: FactoryCa, clock: ManualClock
) -> None:
    file, key = ca.server_certificate(["localhost", "127.0.0.1", "::1"])
    assert file == key
    first = file.read_bytes()
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(file, key)
    clock.advance(SERVER_CERTIFICATE_LIFE / 2 - timedelta(hours=1))
    ca.server_certificate(["::1", "127.0.0.1", "localhost"])
    assert file.read_bytes() == first
    clock.advance(timedelta(hours=2))
    ca.server_certificate(["localhost", "127.0.0.1", "::1"])
    assert file.read_bytes() != first


def test_the_listeners_certificate_is_replaced_when_it_is_spoilt_or_for_other_hosts(ca: FactoryCa) -> None:
    file, _ = ca.server_certificate(["localhost"])
    first = file.read_bytes()
    ca.server_certificate(["localhost", "factory.example"])
    assert file.read_bytes() != first
    file.write_bytes(b"nonsense")
    ca.server_certificate(["localhost"])
    assert b"PRIVATE KEY" in file.read_bytes()


def test_a_name_that_cannot_be_is_refused(ca: FactoryCa) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ca.server_certificate(["x" * 80 + ".example"])
    assert caught.value.field == "sans"


def test_nothing_outlives_the_authority_and_its_own_end_is_said(ca: FactoryCa, clock: ManualClock) -> None:
    clock.advance(AUTHORITY_LIFE - timedelta(hours=1))
    signed = ca.sign_agent_csr(new_request(new_key(), "a"), AGENT, DAY)
    assert signed.expires_at == START + AUTHORITY_LIFE
    clock.advance(timedelta(hours=1))
    with pytest.raises(StartupError, match="expired"):
        ca.ensure()


def test_a_spoilt_open_or_missing_authority_is_refused_by_name(tmp_path: Path, clock: ManualClock) -> None:
    file = tmp_path / "ca" / "authority.pem"
    ca = FactoryCa(tmp_path / "ca", clock)
    with pytest.raises(StartupError, match="ensure"):
        _ = ca.fingerprint
    ca.ensure()
    good = file.read_bytes()
    file.chmod(0o640)
    with pytest.raises(StartupError, match="chmod 600"):
        ca.ensure()
    file.chmod(0o600)
    file.write_bytes(good[:200])
    with pytest.raises(StartupError, match=r"authority\.pem"):
        ca.ensure()
    other = FactoryCa(tmp_path / "other", clock)
    other.ensure()
    start = good.index(b"-----BEGIN PRIVATE")
    theirs = (tmp_path / "other" / "authority.pem").read_bytes()
    file.write_bytes(good[:start] + theirs[theirs.index(b"-----BEGIN PRIVATE") :])
    with pytest.raises(StartupError, match="does not belong"):
        ca.ensure()
    with pytest.raises(StartupError, match="cannot be used"):
        FactoryCa(Path("/proc/penstock-ca"), clock).ensure()
