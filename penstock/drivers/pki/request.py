"""The agent's side of a certificate: its key, its request, and what it reads in the answer.

The private key is made where it is used and never leaves that machine.
"""

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from penstock.base.errors import InvalidInputError
from penstock.drivers.pki.certificates import key_pem, new_key, new_request, sha256_hex


def make_request(name: str) -> tuple[str, str]:
    """Return a new EC P-256 private key (PEM, unencrypted) and a signed certificate request (PEM)."""
    key = new_key()
    return key_pem(key).decode("ascii"), new_request(key, name)


def read_certificate(pem: str, field: str = "certificate_pem") -> x509.Certificate:
    """Return the first certificate in ``pem``; raises InvalidInputError naming ``field`` if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem.encode("ascii", "replace"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("this is not a certificate in PEM form", field=field) from error


def fingerprint(pem: str) -> str:
    """Return the SHA-256 of a certificate's DER form in hexadecimal; raises InvalidInputError."""
    return sha256_hex(read_certificate(pem))


def belongs_together(private_key_pem: str, pem: str) -> bool:
    """Tell whether the certificate is for this key; raises InvalidInputError if either cannot be read."""
    try:
        key = serialization.load_pem_private_key(private_key_pem.encode("ascii", "replace"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("this is not a private key in PEM form", field="key") from error
    return key.public_key() == read_certificate(pem).public_key()


def validity(pem: str) -> tuple[datetime, datetime]:
    """Return from when until when a certificate is valid; raises InvalidInputError."""
    certificate = read_certificate(pem)
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc
