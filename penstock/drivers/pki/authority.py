"""The factory's certificate authority: it certifies the agents and the listener they talk to, and nothing else.

It is trusted by the agents of this factory alone, because each join token carries its fingerprint. What it
signs is limited twice: it may have no authority below it, and an agent's certificate is good for client
authentication only, so no agent can pretend to be the control plane.

Everything is in one folder (mode 0700): ``ca.pem`` and ``ca.key``, ``server.pem`` and ``server.key``; keys
have mode 0600. Whoever has ``ca.key`` has the factory's agents: back it up as you do a password.
"""

import hashlib
import ipaddress
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, StartupError
from penstock.drivers.pki.request import PEM_CHARACTERS_MAX, SERVER_NAME, renew_at

CA_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=90)
# Certificates count from a little earlier, so that an agent whose clock is somewhat slow can use its own at once.
BACKDATE = timedelta(minutes=10)


class FactoryCa:
    """The authority in ``folder``, made if it is not there.

    Raises StartupError if the folder holds something else, or half of an authority: a new one would lock out
    every agent, so that is never done by itself.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        certificate_file, key_file = folder / "ca.pem", folder / "ca.key"
        if not certificate_file.exists() and not key_file.exists():
            self._make(certificate_file, key_file)
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StartupError(
                f"the certificate authority in {folder} cannot be read ({error}); restore ca.pem and ca.key from a "
                "backup, or remove both and let every agent join again"
            ) from error
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != self._certificate.public_key()
        ):
            raise StartupError(
                f"ca.key and ca.pem in {folder} do not belong together; restore both from one backup"
            )
        self._key = key

    @property
    def ca_pem(self) -> str:
        """Return the authority's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    @property
    def ca_file(self) -> Path:
        """Return the file of the authority's certificate, for TLS libraries that read files."""
        return self._folder / "ca.pem"

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hexadecimal) of the authority's certificate in DER form; join tokens carry it."""
        return _sha256(self._certificate)

    def sign_agent_csr(self, csr_pem: str, agent_id: str, life: timedelta) -> tuple[str, str, datetime]:
        """Certify an agent; return its certificate (PEM), that one's SHA-256 and when it ends.

        Only the public key is taken from the request: the name is ``agent_id``, whatever was asked for.
        Raises InvalidInputError (field ``csr_pem``) unless the request is signed by its own EC P-256 key.
        """
        public_key = _requested_key(csr_pem)
        now = self._clock.now().replace(microsecond=0)  # certificates count in seconds
        builder = self._builder(agent_id, public_key, now - BACKDATE, now + life).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return _pem(certificate), _sha256(certificate), certificate.not_valid_after_utc

    def server_certificate(self, sans: Sequence[str]) -> tuple[Path, Path]:
        """Return the files of the listener's certificate (with its authority's) and key.

        ``sans`` are the names and addresses it is also known by; ``SERVER_NAME`` is always one. A new one is
        made when half of its life is over, when a name is missing, or when the authority is another.
        """
        certificate_file, key_file = self._folder / "server.pem", self._folder / "server.key"
        if self._still_good(certificate_file, key_file, sans):
            return certificate_file, key_file
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._clock.now().replace(microsecond=0)
        names = [x509.DNSName(SERVER_NAME), *(_general_name(san) for san in sans if san != SERVER_NAME)]
        end = min(now + SERVER_LIFE, self._certificate.not_valid_after_utc)
        builder = (
            self._builder(SERVER_NAME, key.public_key(), now - BACKDATE, end)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        # The key first: a crash in between leaves a pair that does not match, which is then made again.
        _write_secret(key_file, _key_pem(key))
        _write_secret(certificate_file, (_pem(certificate) + self.ca_pem).encode("ascii"))
        return certificate_file, key_file

    def _still_good(self, certificate_file: Path, key_file: Path, sans: Sequence[str]) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            certificate.verify_directly_issued_by(self._certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except Exception:  # noqa: BLE001 - whatever is wrong with the old one, a new one is the answer
            return False
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return (
            key.public_key() == certificate.public_key()
            and begin <= self._clock.now() < renew_at(begin, end)
            and {_general_name(san) for san in sans} <= set(names)
        )

    def _builder(
        self, name: str, public_key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
    ) -> x509.CertificateBuilder:
        """Return what all certificates below the authority have in common (RFC 5280, 4.2.1)."""
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(authority, critical=False)
        )

    def _make(self, certificate_file: Path, key_file: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._clock.now().replace(microsecond=0)
        name = _name(f"Penstock factory {x509.random_serial_number() & 0xFFFFFFFF:08x}")
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_secret(key_file, _key_pem(key))
        _write_secret(certificate_file, _pem(certificate).encode("ascii"))


def _requested_key(csr_pem: str) -> ec.EllipticCurvePublicKey:
    if len(csr_pem) > PEM_CHARACTERS_MAX:
        raise InvalidInputError(
            f"a certificate request has at most {PEM_CHARACTERS_MAX} characters", field="csr_pem"
        )
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode("ascii", "replace"))
        signed = request.is_signature_valid
        public_key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("this is not a certificate request in PEM form", field="csr_pem") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or public_key.curve.name != "secp256r1":
        raise InvalidInputError("the key of the request must be EC P-256", field="csr_pem")
    if not signed:
        raise InvalidInputError("the request is not signed by its own key", field="csr_pem")
    return public_key


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san.partition("%")[0]))
    except ValueError:
        return x509.DNSName(san)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _sha256(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()


def _write_secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner reads, as a whole and to the disk: a lost key locks everybody out."""
    partial = file.with_name(file.name + ".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)
