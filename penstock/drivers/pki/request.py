"""The agent's side of a certificate: its key, its request, and what it reads in the answer.

The private key is made where it is used and never leaves that machine.
"""

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from penstock.base.errors import InvalidInputError

# The name in every server certificate of a factory. Agents expect it whatever address they reach the factory
# by, so that a change of address, a port forward or a second network card needs no new certificate.
SERVER_NAME = "control-plane.penstock.internal"
PEM_CHARACTERS_MAX = 16_384


def make_request(name: str) -> tuple[bytes, str]:
    """Return a new EC P-256 private key (PEM, unencrypted) and a signed certificate request (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64] or "agent")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key_pem, request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def read_certificate(pem: str, field: str = "certificate_pem") -> x509.Certificate:
    """Return the certificate in ``pem``; raises InvalidInputError if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem[:PEM_CHARACTERS_MAX].encode("ascii", "replace"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("this is not a certificate in PEM form", field=field) from error


def fingerprint(certificate_pem: str) -> str:
    """Return the SHA-256 of a certificate's DER form in hexadecimal; raises InvalidInputError."""
    der = read_certificate(certificate_pem).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def belongs_together(key_pem: bytes, certificate_pem: str) -> bool:
    """Tell whether the certificate is for this key; raises InvalidInputError if either cannot be read."""
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("this is not a private key in PEM form", field="key") from error
    return key.public_key() == read_certificate(certificate_pem).public_key()


def validity(certificate_pem: str) -> tuple[datetime, datetime]:
    """Return from when until when a certificate is valid; raises InvalidInputError."""
    certificate = read_certificate(certificate_pem)
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def renew_at(begin: datetime, end: datetime) -> datetime:
    """Return when a certificate of this validity is to be replaced: half of it is over."""
    return begin + max(timedelta(0), end - begin) / 2
