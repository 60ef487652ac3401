"""The factory's certificate authority: it certifies agents, the listener they talk to, and the token gateway.

It is trusted by the agents of this factory alone, because each join token carries its fingerprint. What it
signs is limited: it may have no authority below it, and what an agent's certificate answers to is a name below
``agents.penstock.internal``, which is not the one that agents expect of the control plane, so no agent can
pretend to be that. The gateway's certificate answers to no name at all.

``authority.pem`` and ``server.pem`` each hold a certificate and its key in one file of mode 0600, so that a
pair is replaced as a whole. Whoever has ``authority.pem`` has the factory's agents: back it up as you do a
password. It is never made anew while there is one, however spoilt: a new one would lock out every agent.
"""

import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from penstock.base.clock import Clock
from penstock.base.errors import InvalidInputError, StartupError
from penstock.base.ids import is_id
from penstock.drivers.pki.certificates import (
    GATEWAY_URI,
    SERVER_NAME,
    AgentCertificate,
    certificate_pem,
    host_name,
    key_pem,
    new_authority,
    new_key,
    read_request,
    renew_at,
    sha256_hex,
    sign_for_agent,
    sign_for_gateway,
    sign_for_server,
)

AUTHORITY_LIFE = timedelta(days=3_650)
SERVER_CERTIFICATE_LIFE = timedelta(days=90)
# Longer than an agent's, so that it is never what ends first while the control plane is away.
GATEWAY_CERTIFICATE_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> bytes:
        return certificate_pem(self.certificate) + key_pem(self.key)


class FactoryCa:
    """The authority in ``folder``. Call ``ensure`` first: every other call raises StartupError before."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._file = folder / "authority.pem"
        self._pair: _Pair | None = None

    def ensure(self) -> None:
        """Read the authority, made if there is none; whoever of several processes comes first makes it.

        Raises StartupError if what is there cannot be used, is open to others, or has expired.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._file.exists():
                self._make()
            content = self._file.read_bytes()
            mode = stat.S_IMODE(self._file.stat().st_mode)
        except OSError as error:
            raise StartupError(
                f"the folder {self._folder} of the certificate authority cannot be used: {error}"
            ) from error
        if mode & 0o077:
            raise StartupError(
                f"others may read the factory's authority; check who did, then: chmod 600 {self._file}"
            )
        pair = _read_pair(content)
        if pair is None:
            raise StartupError(
                f"{self._file} is spoilt, or its key does not belong to its certificate; restore it from a backup, or "
                "remove it and let every agent join again"
            )
        if pair.certificate.not_valid_after_utc <= self._clock.now():
            raise StartupError(
                f"the authority in {self._file} has expired; move it away, start again and let every agent join again"
            )
        self._pair = pair

    @property
    def ca_pem(self) -> str:
        """Return the authority's certificate."""
        return certificate_pem(self._ready().certificate).decode("ascii")

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the authority's certificate in DER form; join tokens carry it."""
        return sha256_hex(self._ready().certificate)

    def sign_agent_csr(self, csr_pem: str, agent_id: str, life: timedelta) -> AgentCertificate:
        """Certify an agent for ``life``, but never beyond the authority's own end.

        Only the public key is taken from the request. Raises InvalidInputError naming ``csr_pem`` unless the
        request is signed by its own EC P-256 key, and ``agent_id`` if that is none.
        """
        pair = self._ready()
        if not is_id(agent_id, "agent"):
            raise InvalidInputError("only an agent's id is certified", field="agent_id")
        public_key = read_request(csr_pem)
        now = self._now()
        end = min(now + life, pair.certificate.not_valid_after_utc)
        signed = sign_for_agent(pair.key, pair.certificate, public_key, agent_id, now, end)
        return AgentCertificate(
            certificate_pem(signed).decode("ascii"), sha256_hex(signed), signed.not_valid_after_utc
        )

    def server_certificate(self, sans: Sequence[str]) -> tuple[Path, Path]:
        """Return the file of the listener's certificate and that of its key; they are one and the same file.

        ``sans`` are names and addresses it is also known by; ``SERVER_NAME``, which agents expect, is always
        one. It is made anew when half of its life is over, for other names, and when it is spoilt. Raises
        InvalidInputError naming ``sans``.
        """
        file = self._folder / "server.pem"
        hosts = sorted({SERVER_NAME, *sans})
        names = {host_name(host) for host in hosts}

        def sign(key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime) -> x509.Certificate:
            authority = self._ready()
            return sign_for_server(authority.key, authority.certificate, key.public_key(), hosts, now, end)

        self._keep(file, names, SERVER_CERTIFICATE_LIFE, sign)
        return file, file

    def gateway_certificate(self, folder: Path) -> tuple[Path, Path]:
        """Return the file of the gateway's certificate with its key, and that of the authority it is to trust.

        Both lie in ``folder``, made where it is missing. The certificate is made anew when half of its life is
        over, for another authority, and when it is spoilt; its file is replaced as a whole. Raises OSError.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file, trusted = folder / "client.pem", folder / "agents-ca.pem"

        def sign(key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime) -> x509.Certificate:
            authority = self._ready()
            return sign_for_gateway(authority.key, authority.certificate, key.public_key(), now, end)

        ca_pem = self.ca_pem.encode("ascii")
        if not trusted.exists() or trusted.read_bytes() != ca_pem:
            _write(folder, ca_pem).replace(trusted)
        self._keep(file, {x509.UniformResourceIdentifier(GATEWAY_URI)}, GATEWAY_CERTIFICATE_LIFE, sign)
        return file, trusted

    def _keep(
        self,
        file: Path,
        names: set[x509.GeneralName],
        life: timedelta,
        sign: Callable[[ec.EllipticCurvePrivateKey, datetime, datetime], x509.Certificate],
    ) -> None:
        """See that ``file`` holds a good certificate for ``names``, with its key."""
        if self._still_good(file, names):
            return
        key, now = new_key(), self._now()
        end = min(now + life, self._ready().certificate.not_valid_after_utc)
        _write(file.parent, _Pair(sign(key, now, end), key).pem()).replace(file)

    def _still_good(self, file: Path, names: set[x509.GeneralName]) -> bool:
        pair = _read_pair(file.read_bytes()) if file.exists() else None
        if pair is None:
            return False
        certificate = pair.certificate
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        try:
            certificate.verify_directly_issued_by(self._ready().certificate)
            san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        return begin <= self._clock.now() < renew_at(begin, end) and names == set(san)

    def _make(self) -> None:
        key = new_key()
        made = _write(self._folder, _Pair(new_authority(key, self._now(), AUTHORITY_LIFE), key).pem())
        try:
            os.link(made, self._file)  # unlike a rename it fails if somebody was quicker
        except FileExistsError:
            pass  # another process made it: that one counts
        finally:
            made.unlink()

    def _now(self) -> datetime:
        return self._clock.now().replace(microsecond=0)  # certificates count in seconds

    def _ready(self) -> _Pair:
        if self._pair is None:
            raise StartupError("the certificate authority is not open; call ensure() first")
        return self._pair


def _read_pair(content: bytes) -> _Pair | None:
    """Return certificate and key, None if they are not both there and made for each other."""
    try:
        certificate = x509.load_pem_x509_certificate(content)
        begin = content.index(b"-----BEGIN PRIVATE KEY")
        key = serialization.load_pem_private_key(content[begin:], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    return _Pair(certificate, key)


def _write(folder: Path, content: bytes) -> Path:
    """Return a new file that only its owner reads, on the disk; the caller gives it its name."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".new-")  # made with mode 0600
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    return Path(name)
