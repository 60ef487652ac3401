"""Signed statements of the factory: Ed25519 over the exact text, verifiable by anybody with the public key.

The key lies in one file of mode 0600 beside the data. The public key travels with every statement, and the
factory knows which one is its own (`actions/deletion_proof.py`): a process without that file signs nothing.
"""

import base64
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from penstock.base.errors import StartupError


class Signer:
    """Signs texts with one key."""

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        self._key = key or Ed25519PrivateKey.generate()

    @classmethod
    def from_file(cls, path: Path, *, make: bool = True) -> "Signer":
        """Return the signer whose key is in ``path``, made there at first use; StartupError if it is damaged.

        Without ``make``, it is an error that there is none.
        """
        try:
            pem = path.read_bytes()
        except FileNotFoundError as error:
            if make:
                return cls._make(path)
            raise StartupError(
                f"{path} is not there: PENSTOCK_SIGNING_KEY_FILE names a copy of the factory's keys/proof-signing.pem"
            ) from error
        except OSError as error:
            raise StartupError(f"{path} cannot be read: {error.strerror}") from error
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise StartupError(
                f"{path} is damaged: restore it, or remove it for a new signing key"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise StartupError(f"{path} holds another kind of key; remove it for a new signing key")
        return cls(key)

    @classmethod
    def _make(cls, path: Path) -> "Signer":
        signer = cls()
        pem = signer._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls.from_file(path)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        return signer

    @property
    def public_key(self) -> str:
        """Return the public key: 32 bytes in base64."""
        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    def sign(self, text: str) -> str:
        """Return the signature of ``text`` in UTF-8, in base64."""
        return base64.b64encode(self._key.sign(text.encode())).decode()


def verify(text: str, signature: str, public_key: str) -> bool:
    """Tell whether ``signature`` is that of ``text`` by the owner of ``public_key``."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
