"""Certificates by themselves: names, purposes, validity, and who a certificate says its holder is."""

import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from penstock.base.errors import InvalidInputError
from penstock.base.ids import new_id
from penstock.drivers.pki import certificates

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
AGENT = new_id("agent", NOW)


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return certificates.new_key()


@pytest.fixture(scope="module")
def authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return certificates.new_authority(key, NOW, 10 * DAY)


def agents_certificate(key: ec.EllipticCurvePrivateKey, authority: x509.Certificate) -> x509.Certificate:
    public_key = certificates.new_key().public_key()
    return certificates.sign_for_agent(key, authority, public_key, AGENT, NOW, NOW + DAY)


def test_an_authority_signs_certificates_and_nothing_below_it_may(
    key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> None:
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    below = agents_certificate(key, authority).extensions
    assert below.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert below.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False


def test_each_certificate_has_its_purposes_and_no_other(
    key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> None:
    public_key = certificates.new_key().public_key()
    server = certificates.sign_for_server(key, authority, public_key, ["127.0.0.1"], NOW, NOW + DAY)
    gateway = certificates.sign_for_gateway(key, authority, public_key, NOW, NOW + DAY)
    as_client, as_server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    for made, purposes in (
        (agents_certificate(key, authority), [as_client, as_server]),
        (server, [as_server]),
        (gateway, [as_client]),
    ):
        made.verify_directly_issued_by(authority)
        assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == purposes


def test_the_gateway_is_named_by_a_uri_and_is_no_agent(
    key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> None:
    public_key = certificates.new_key().public_key()
    made = certificates.sign_for_gateway(key, authority, public_key, NOW, NOW + DAY)
    san = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(san) == [x509.UniformResourceIdentifier("urn:penstock:gateway")]
    with pytest.raises(InvalidInputError):
        certificates.read_agent_certificate(made.public_bytes(serialization.Encoding.DER))


def test_a_certificate_holds_a_little_earlier_and_ends_when_it_was_said(
    key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> None:
    made = agents_certificate(key, authority)
    assert made.not_valid_before_utc == NOW - certificates.CLOCK_SKEW
    assert made.not_valid_after_utc == NOW + DAY
    assert certificates.renew_at(NOW, NOW + DAY) == NOW + DAY / 2


def test_who_the_holder_is_comes_from_the_certificate(
    key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> None:
    made = agents_certificate(key, authority)
    der = made.public_bytes(serialization.Encoding.DER)
    identity = certificates.read_agent_certificate(der)
    assert identity.agent_id == AGENT
    assert identity.expires_at == NOW + DAY
    assert identity.sha256 == hashlib.sha256(der).hexdigest() == certificates.sha256_hex(made)


@pytest.mark.parametrize(
    "names",
    [
        [],
        [x509.DNSName("urn.example")],
        [x509.UniformResourceIdentifier("urn:penstock:agent:root")],
        [x509.UniformResourceIdentifier(f"urn:penstock:tenant:{AGENT}")],
        [x509.UniformResourceIdentifier(f"urn:penstock:agent:{AGENT}")] * 2,
    ],
)
def test_a_certificate_that_names_no_agent_or_two_is_nobodys(
    key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName]
) -> None:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, AGENT)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    with pytest.raises(InvalidInputError):
        certificates.read_agent_certificate(der)


def test_a_request_proves_its_key_and_its_label_is_only_a_label() -> None:
    key = certificates.new_key()
    for label in ("", "a", "x" * 300, "näme"):
        asked = certificates.read_request(certificates.new_request(key, label))
        assert asked == key.public_key()


def test_a_key_is_kept_as_pkcs8(key: ec.EllipticCurvePrivateKey) -> None:
    pem = certificates.key_pem(key)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    again = serialization.load_pem_private_key(pem, None)
    assert again.public_key() == key.public_key()


def test_hosts_are_addresses_or_names() -> None:
    assert certificates.host_name("127.0.0.1") == x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    assert certificates.host_name("::1") == x509.IPAddress(ipaddress.ip_address("::1"))
    assert certificates.host_name("factory.example") == x509.DNSName("factory.example")
    assert certificates.host_name("bücher.example") == x509.DNSName("xn--bcher-kva.example")
    with pytest.raises(InvalidInputError) as caught:
        certificates.host_name("x" * 64 + ".example")
    assert caught.value.field == "sans"
