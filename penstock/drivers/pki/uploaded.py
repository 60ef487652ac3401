"""Certificates that tenants bring: read, checked against their key, and written anew without anything else in them."""

from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers.pki.certificates import certificate_pem, sha256_hex
from penstock.drivers.pki.project_authority import Content

RSA_BITS_MIN, RSA_BITS_MAX = 2_048, 4_096
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384"}
_CHAIN, _KEY = "certificate_pem", "private_key_pem"
_NO_CHAIN = "certificates in PEM are needed, the server's own first, each followed by the one that signed it"
_NO_KEY = "an unencrypted private key in PEM is needed: RSA of 2,048 to 4,096 bits, or EC P-256 or P-384"


def read_uploaded(chain_pem: str, private_key_pem: str, now: datetime) -> Content:
    """Return a certificate that was brought; InvalidInputError names the field that is wrong.

    The chain is in order, holds now and is a server's; the key belongs to its first certificate. That its last one is
    trusted by anybody is not asked.
    """
    chain = _chain(chain_pem)
    leaf = chain[0]
    for certificate in chain:
        if certificate.not_valid_after_utc <= now:
            raise InvalidInputError(
                f"the certificate of '{certificate.subject.rfc4514_string()[:200]}' expired on "
                f"{certificate.not_valid_after_utc:%Y-%m-%d}",
                field=_CHAIN,
            )
    if leaf.not_valid_before_utc > now:
        raise InvalidInputError(
            f"the certificate holds only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on", field=_CHAIN
        )
    _require_server(leaf)
    key = _private_key(private_key_pem)
    if key.public_key() != leaf.public_key():
        raise InvalidInputError("the key does not belong to the first certificate", field=_KEY)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Content(
        chain_pem="".join(certificate_pem(one).decode("ascii") for one in chain),
        key_pem=pem.decode("ascii"),
        names=_names(leaf),
        serial=f"{leaf.serial_number:x}",
        fingerprint_sha256=sha256_hex(leaf),
        key_kind=_kind(key),
        issuer=leaf.issuer.rfc4514_string()[: limits.TEXT_CHARACTERS_MAX],
        begins_at=leaf.not_valid_before_utc,
        expires_at=leaf.not_valid_after_utc,
    )


def _chain(text: str) -> list[x509.Certificate]:
    try:
        chain = x509.load_pem_x509_certificates(text.encode("ascii"))
        for issued, by in pairwise(chain):
            issued.verify_directly_issued_by(by)
    except InvalidSignature as error:
        raise InvalidInputError(
            "a certificate of the chain was not signed by the next one", field=_CHAIN
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(_NO_CHAIN, field=_CHAIN, internal=str(error)) from error
    if not 1 <= len(chain) <= limits.CERTIFICATE_CHAIN_MAX:
        raise InvalidInputError(f"a chain has 1 to {limits.CERTIFICATE_CHAIN_MAX} certificates", field=_CHAIN)
    if any(isinstance(_digest(one), hashes.MD5 | hashes.SHA1) for one in chain):
        raise InvalidInputError("certificates signed with MD5 or SHA-1 are refused by clients", field=_CHAIN)
    return chain


def _digest(certificate: x509.Certificate) -> hashes.HashAlgorithm | None:
    try:
        return certificate.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        raise InvalidInputError(_NO_CHAIN, field=_CHAIN, internal=str(error)) from error


def _require_server(leaf: x509.Certificate) -> None:
    try:
        extensions = leaf.extensions
    except (ValueError, x509.DuplicateExtension) as error:
        raise InvalidInputError(_NO_CHAIN, field=_CHAIN, internal=str(error)) from error
    for one in extensions:
        if isinstance(one.value, x509.BasicConstraints) and one.value.ca:
            raise InvalidInputError(
                "the first certificate is an authority's; put the server's own first", field=_CHAIN
            )
        if isinstance(one.value, x509.ExtendedKeyUsage) and not {
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        } & set(one.value):
            raise InvalidInputError("this certificate is not for servers", field=_CHAIN)


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise InvalidInputError(
            "this certificate has no subject alternative name; clients refuse it", field=_CHAIN
        ) from error
    names = [
        *san.get_values_for_type(x509.DNSName),
        *(str(one) for one in san.get_values_for_type(x509.IPAddress)),
    ]
    if not 1 <= len(names) <= limits.CERTIFICATE_NAMES_MAX:
        raise InvalidInputError(
            f"a certificate is for 1 to {limits.CERTIFICATE_NAMES_MAX} names or addresses", field=_CHAIN
        )
    return tuple(names)


def _private_key(text: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    try:
        key: PrivateKeyTypes = serialization.load_pem_private_key(text.encode("ascii"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Not even the reason is kept: it may quote what was sent.
        raise InvalidInputError(_NO_KEY, field=_KEY, internal=type(error).__name__) from None
    if isinstance(key, rsa.RSAPrivateKey) and RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key
    raise InvalidInputError(_NO_KEY, field=_KEY)


def _kind(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPrivateKey) else f"EC {_CURVES[key.curve.name]}"
