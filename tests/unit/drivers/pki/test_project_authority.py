"""Authorities of projects: what they issue is trusted where they are, and nowhere else; what they revoke is listed."""

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from penstock.drivers.pki import project_authority as pki

NOW = datetime(2026, 1, 1, 12, 0, 0, 500, tzinfo=UTC)
DAY = timedelta(days=1)


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def test_an_authority_issues_for_names_and_addresses_with_a_new_key_each_time() -> None:
    authority = pki.new(NOW, "Penstock project")
    one, two = (pki.issue(authority, ["www.prod.internal", "10.0.0.9"], NOW, 30 * DAY) for _ in range(2))
    assert (one.serial != two.serial, one.key_pem != two.key_pem) == (True, True)
    leaf = certificate(one.chain_pem)
    leaf.verify_directly_issued_by(certificate(authority.certificate_pem))
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["www.prod.internal"]
    assert san.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.9")]
    assert (leaf.not_valid_after_utc, one.expires_at) == (
        one.expires_at,
        NOW.replace(microsecond=0) + 30 * DAY,
    )
    key = serialization.load_pem_private_key(one.key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == leaf.public_key()
    assert int(one.serial, 16) == leaf.serial_number
    stranger = certificate(pki.new(NOW, "Penstock project").certificate_pem)
    with pytest.raises((InvalidSignature, ValueError)):
        leaf.verify_directly_issued_by(stranger)


def test_nothing_outlives_its_authority() -> None:
    authority = pki.new(NOW, "Penstock project")
    end = certificate(authority.certificate_pem).not_valid_after_utc
    assert pki.issue(authority, ["a.test"], end - DAY, 30 * DAY).expires_at == end
    with pytest.raises(ValueError, match="expired"):
        pki.issue(authority, ["a.test"], end, DAY)


def test_what_is_revoked_stands_in_a_signed_list_whose_number_rises() -> None:
    authority = pki.new(NOW, "Penstock project")
    serial = pki.issue(authority, ["a.test"], NOW, DAY).serial
    first = x509.load_der_x509_crl(pki.revocation_list(authority, [], NOW))
    later = x509.load_der_x509_crl(pki.revocation_list(authority, [(serial, NOW)], NOW + DAY))
    assert len(first) == 0
    found = later.get_revoked_certificate_by_serial_number(int(serial, 16))
    assert found is not None
    assert found.revocation_date_utc == NOW.replace(microsecond=0)
    public_key = certificate(authority.certificate_pem).public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    assert later.is_signature_valid(public_key)
    numbers = [
        one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in (first, later)
    ]
    assert numbers[0] < numbers[1]
    assert later.next_update_utc == (NOW + 8 * DAY).replace(microsecond=0)


def test_a_key_of_another_authority_is_refused() -> None:
    one, two = pki.new(NOW, "Penstock project"), pki.new(NOW, "Penstock project")
    with pytest.raises(ValueError, match="not its own"):
        pki.issue(pki.Authority(one.certificate_pem, two.key_pem), ["a.test"], NOW, DAY)
