"""X.509 as the factory uses it: EC P-256 keys, one authority, client and server certificates (RFC 5280).

An agent's certificate names the agent three times: as common name, for people, as the URI
``urn:penstock:agent:<id>`` in the subject alternative name, for programs, and as the DNS name under which its
relay answers for its replicas (see ``names``). The gateway's says ``urn:penstock:gateway`` and nothing else.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from penstock.base.errors import InvalidInputError
from penstock.base.ids import is_id
from penstock.drivers.pki.names import relay_wildcard

CLOCK_SKEW = timedelta(minutes=5)  # a certificate holds a little earlier than it was made
CSR_CHARACTERS_MAX = 8_192
# The name in every listener's certificate. Agents expect it whatever address they reach the factory by, so
# that another address, a port forward or a second network card needs no new certificate.
SERVER_NAME = "control-plane.penstock.internal"
_AGENT_URI = "urn:penstock:agent:"
GATEWAY_URI = "urn:penstock:gateway"
_NOT_A_REQUEST = "'csr_pem' is a certificate signing request in PEM with an EC P-256 key"


@dataclass(frozen=True, slots=True)
class AgentCertificate:
    """A certificate just signed for an agent; ``sha256`` is the hex digest of its DER form."""

    pem: str
    sha256: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who a client certificate belongs to, as the TLS layer verified it."""

    agent_id: str
    sha256: str
    expires_at: datetime


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh EC P-256 private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return ``key`` as unencrypted PKCS 8; its file must be private."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return ``certificate`` as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def sha256_hex(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate's DER form in lower-case hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def new_authority(
    key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta, label: str = "Penstock factory"
) -> x509.Certificate:
    """Return a self-signed authority certificate that may sign end certificates only; its name begins with ``label``."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"{label} {identifier.digest.hex()[:12]}")
    usage = _key_usage(signs_certificates=True)
    return (
        _builder(name, name, key.public_key(), now, now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_issued_by(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def sign_for_agent(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    agent_id: str,
    now: datetime,
    expires_at: datetime,
) -> x509.Certificate:
    """Return a certificate that says its holder is ``agent_id``: to the factory, and to who dials its relay."""
    san = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(_AGENT_URI + agent_id), x509.DNSName(relay_wildcard(agent_id))]
    )
    purposes = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    return _end_certificate(key, authority, public_key, agent_id, san, purposes, now, expires_at)


def sign_for_gateway(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    expires_at: datetime,
) -> x509.Certificate:
    """Return a client certificate that says its holder is the factory's token gateway."""
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(GATEWAY_URI)])
    purposes = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    return _end_certificate(key, authority, public_key, "Penstock gateway", san, purposes, now, expires_at)


def sign_for_server(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
    now: datetime,
    expires_at: datetime,
    name: str = "Penstock agent listener",
) -> x509.Certificate:
    """Return a server certificate for ``hosts``, names or addresses; InvalidInputError on what is neither."""
    san = x509.SubjectAlternativeName([host_name(host) for host in hosts])
    purposes = (ExtendedKeyUsageOID.SERVER_AUTH,)
    return _end_certificate(key, authority, public_key, name, san, purposes, now, expires_at)


def read_request(csr_pem: str) -> ec.EllipticCurvePublicKey:
    """Return the public key of a signing request whose sender proved to hold the private one.

    Everything else in the request is ignored: the authority decides who the holder is. Raises
    InvalidInputError naming ``csr_pem``.
    """
    if len(csr_pem) > CSR_CHARACTERS_MAX:
        raise InvalidInputError(_NOT_A_REQUEST, field="csr_pem")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode("ascii"))
        public_key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, UnicodeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise InvalidInputError(_NOT_A_REQUEST, field="csr_pem", internal=str(error)) from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or public_key.curve.name != "secp256r1":
        raise InvalidInputError(_NOT_A_REQUEST, field="csr_pem")
    if not proven:
        raise InvalidInputError("the signature of the signing request is wrong", field="csr_pem")
    return public_key


def new_request(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    """Return a signing request in PEM for ``key``; ``name`` is a label that the authority ignores."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(name[:64] or "agent"))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")


def read_agent_certificate(der: bytes) -> AgentIdentity:
    """Return who a client certificate names. It must have been verified against the authority before.

    Raises InvalidInputError if it is no certificate of an agent.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise InvalidInputError("this is no certificate of an agent", internal=str(error)) from error
    named = [uri.removeprefix(_AGENT_URI) for uri in uris if uri.startswith(_AGENT_URI)]
    if len(named) != 1 or not is_id(named[0], "agent"):
        raise InvalidInputError("this is no certificate of an agent")
    return AgentIdentity(named[0], sha256_hex(certificate), certificate.not_valid_after_utc)


def renew_at(begin: datetime, end: datetime) -> datetime:
    """Return when a certificate of this validity is to be replaced: half of it is over."""
    return begin + (end - begin) / 2


def host_name(text: str) -> x509.GeneralName:
    """Return a host name or address as it stands in a certificate; InvalidInputError names ``sans``."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass  # no address, so it is taken for a name
    try:
        return x509.DNSName(text.encode("idna").decode("ascii") if text else "")
    except (UnicodeError, ValueError) as error:
        raise InvalidInputError(f"'{text}' is no host name or address", field="sans") from error


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _issued_by(public_key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
    expires_at: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(expires_at)
    )


def _end_certificate(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    public_key: ec.EllipticCurvePublicKey,
    common_name: str,
    san: x509.SubjectAlternativeName,
    purposes: Sequence[x509.ObjectIdentifier],
    now: datetime,
    expires_at: datetime,
) -> x509.Certificate:
    return (
        _builder(_name(common_name), authority.subject, public_key, now, expires_at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(san, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_issued_by(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
