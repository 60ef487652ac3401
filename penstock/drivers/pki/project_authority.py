"""Authorities of projects: made, asked for server certificates, asked for the list of what they revoked (RFC 5280).

Everything goes in and out as PEM texts; where they are kept, and that keys are sealed there, is the caller's to see to.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from penstock.drivers.pki.certificates import (
    certificate_pem,
    key_pem,
    new_authority,
    new_key,
    sha256_hex,
    sign_for_server,
)

AUTHORITY_LIFE = timedelta(days=3_650)
LIST_LIFE = timedelta(days=7)  # how long a list of what was revoked may be kept before it is asked for again
_COMMON_NAME_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority with its private key, both as PEM."""

    certificate_pem: str
    key_pem: str


@dataclass(frozen=True, slots=True)
class Content:
    """A certificate as it is kept: the chain from the leaf on and the key as PEM, and what they say."""

    chain_pem: str
    key_pem: str
    names: tuple[str, ...]
    serial: str  # hex
    fingerprint_sha256: str  # hex, of the DER form
    key_kind: str
    issuer: str
    begins_at: datetime
    expires_at: datetime


def new(now: datetime, label: str) -> Authority:
    """Return a new authority that signs end certificates and lists of revoked ones, for ten years."""
    key = new_key()
    made = new_authority(key, now.replace(microsecond=0), AUTHORITY_LIFE, label)
    return Authority(certificate_pem(made).decode("ascii"), key_pem(key).decode("ascii"))


def issue(authority: Authority, names: Sequence[str], now: datetime, life: timedelta) -> Content:
    """Return a server certificate with a new EC P-256 key for ``names``, never beyond the authority's own end.

    ValueError if the authority's own time is over.
    """
    signer, signing_key = _open(authority)
    begin = now.replace(microsecond=0)  # certificates count in seconds
    end = min(begin + life, signer.not_valid_after_utc)
    if end <= begin:
        raise ValueError("the authority's own certificate has expired")
    key = new_key()
    common_name = next((name for name in names if len(name) <= _COMMON_NAME_CHARACTERS_MAX), "penstock")
    signed = sign_for_server(signing_key, signer, key.public_key(), names, begin, end, common_name)
    return Content(
        chain_pem=certificate_pem(signed).decode("ascii"),
        key_pem=key_pem(key).decode("ascii"),
        names=tuple(names),
        serial=f"{signed.serial_number:x}",
        fingerprint_sha256=sha256_hex(signed),
        key_kind="EC P-256",
        issuer=signed.issuer.rfc4514_string(),
        begins_at=begin,
        expires_at=end,
    )


def revocation_list(authority: Authority, revoked: Iterable[tuple[str, datetime]], now: datetime) -> bytes:
    """Return the signed list (DER) of revoked serials, each hex, with when; its number only ever rises."""
    signer, signing_key = _open(authority)
    begin = now.replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.subject)
        .last_update(begin)
        .next_update(begin + LIST_LIFE)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False
        )
        .add_extension(x509.CRLNumber(int(begin.timestamp())), critical=False)
    )
    for serial, at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(at)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signing_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _open(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = x509.load_pem_x509_certificate(authority.certificate_pem.encode("ascii"))
    key = serialization.load_pem_private_key(authority.key_pem.encode("ascii"), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("the key of this authority is not its own")
    return certificate, key
