"""Who this agent is to its factory: address, authority, certificate and key, in one private folder.

``agent.pem`` holds key and certificate together and is replaced as a whole, so the two always match.
``identity.json`` is written last: without it there is no identity.
"""

import fcntl
import os
import ssl
import stat
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from penstock.base.errors import StartupError
from penstock.drivers.pki import SERVER_NAME, certificates, relay_wildcard

_KEY_AND_CERTIFICATE = "agent.pem"
_AUTHORITY = "ca.pem"
_IDENTITY = "identity.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """An agent that has joined the factory at ``url``."""

    agent_id: str
    name: str
    url: str
    site: str


class IdentityFolder:
    """The folder that keeps an identity. Everything raises StartupError with what to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        """Tell whether this agent has joined."""
        return (self.folder / _IDENTITY).exists()

    def load(self) -> Identity:
        """Return the identity; StartupError if there is none or it is spoilt."""
        file = self.folder / _IDENTITY
        try:
            found = Identity(**orjson.loads(file.read_bytes()))
        except FileNotFoundError as error:
            raise StartupError(
                f"this agent has not joined a factory yet ({file} is absent): run `penstock agent join`"
            ) from error
        except (OSError, orjson.JSONDecodeError, TypeError) as error:
            raise self._spoilt(file, error) from error
        self.validity()
        return found

    def save(
        self, identity: Identity, ca_pem: str, certificate_pem: str, key: ec.EllipticCurvePrivateKey
    ) -> None:
        """Keep a new identity; what was there before is replaced."""
        self._make_folder()
        (self.folder / _IDENTITY).unlink(missing_ok=True)
        self._write(_AUTHORITY, ca_pem.encode("ascii"))
        self.replace_certificate(certificate_pem, key)
        self._write(_IDENTITY, orjson.dumps(asdict(identity), option=orjson.OPT_INDENT_2))

    def replace_certificate(self, certificate_pem: str, key: ec.EllipticCurvePrivateKey) -> None:
        """Keep a renewed certificate with its key; StartupError if they do not belong together."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
        except ValueError as error:
            raise StartupError("the factory answered with something that is no certificate") from error
        if certificate.public_key() != key.public_key():
            raise StartupError("the factory signed another key than ours: it is not the one we asked")
        self._write(_KEY_AND_CERTIFICATE, certificate_pem.encode("ascii") + certificates.key_pem(key))

    @property
    def certificate_file(self) -> Path:
        """Return the file with the certificate and its key."""
        return self.folder / _KEY_AND_CERTIFICATE

    @property
    def authority_file(self) -> Path:
        """Return the file with the factory's authority."""
        return self.folder / _AUTHORITY

    def validity(self) -> tuple[datetime, datetime]:
        """Return from when to when the present certificate holds."""
        found = self._certificate()
        return found.not_valid_before_utc, found.not_valid_after_utc

    def answers_for(self, agent_id: str) -> bool:
        """Tell whether the present certificate has the name that the agent's relay answers to."""
        try:
            san = self._certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return False
        return relay_wildcard(agent_id) in san.get_values_for_type(x509.DNSName)

    def _certificate(self) -> x509.Certificate:
        file = self.folder / _KEY_AND_CERTIFICATE
        try:
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                raise StartupError(
                    f"{file} holds a private key and is open to other users: run 'chmod 600 {file}'"
                )
            return x509.load_pem_x509_certificate(file.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise self._spoilt(file, error) from error

    def tls(self) -> ssl.SSLContext:
        """Return a context that trusts the factory's authority alone and shows our certificate."""
        try:
            context = trust(self.folder.joinpath(_AUTHORITY).read_text("ascii"))
            context.load_cert_chain(self.folder / _KEY_AND_CERTIFICATE)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise self._spoilt(self.folder, error) from error
        return context

    def prepare(self) -> None:
        """Make the folder and see that it can be written."""
        self._make_folder()
        self._write("probe", b"")
        (self.folder / "probe").unlink()

    def hold(self) -> int:
        """Take the folder for this process; the kernel lets go when it ends. StartupError if it is taken."""
        self._make_folder()
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise StartupError(
                f"another agent (process {holder}) works with {self.folder}: stop that one, or choose another "
                "state folder"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        return handle

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(f"the state folder {self.folder} cannot be used: {error.strerror}") from error

    def _write(self, name: str, content: bytes) -> None:
        partial = self.folder / f".{name}.new"
        try:
            partial.unlink(missing_ok=True)
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(handle)
            partial.replace(self.folder / name)
        except OSError as error:
            raise StartupError(f"{self.folder / name} cannot be written: {error.strerror}") from error

    def _spoilt(self, file: Path, error: Exception) -> StartupError:
        return StartupError(
            f"{file} cannot be used ({error}): join again with `penstock agent join --replace` and a new token",
            internal=repr(error),
        )


class _FactoryContext(ssl.SSLContext):
    """Expects the factory's one name, whatever address it is reached by, also through a proxy."""

    def wrap_socket(self, sock: Any, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        """Begin TLS with the factory."""
        return super().wrap_socket(sock, *arguments, **{**named, "server_hostname": SERVER_NAME})

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """Begin TLS with the factory within another stream."""
        return super().wrap_bio(*arguments, **{**named, "server_hostname": SERVER_NAME})


def trust(ca_pem: str) -> ssl.SSLContext:
    """Return a TLS client context that trusts this authority and no other; ssl.SSLError if it is none."""
    context = _FactoryContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem)
    return context
