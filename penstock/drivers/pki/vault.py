"""Secrets at rest: AES-256-GCM under a key that lies in one file of mode 0600 and never in the database.

What is sealed is bound to its purpose (such as "totp usr_..."), so that a row copied over another one does not
open. The file has one key a line, 32 bytes in base64: the first seals, all open; a new first line is a rotation,
after which ``is_current`` tells what is still to be sealed anew. Format: ``v1.<key id>.<nonce and text>``.
"""

import base64
import binascii
import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from penstock.base.errors import StartupError, UnavailableError

KEY_BYTES = 32
NONCE_BYTES = 12
VERSION = "v1"
KEYS_MAX = 16


class Vault:
    """Seals and opens small texts; without a loaded key it refuses both."""

    def __init__(self) -> None:
        self._keys: dict[str, AESGCM] = {}

    def load(self, path: Path) -> None:
        """Take the keys in ``path``, which is made at first use; StartupError if it is damaged."""
        try:
            lines = path.read_text(encoding="ascii").split()
        except FileNotFoundError:
            lines = _make(path)
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(f"{path} cannot be read ({error}); restore it") from error
        keys: dict[str, AESGCM] = {}
        for line in lines[:KEYS_MAX]:
            try:
                key = base64.b64decode(line, validate=True)
            except binascii.Error:
                key = b""
            if len(key) != KEY_BYTES:
                raise StartupError(
                    f"{path} is damaged: it has one key a line, {KEY_BYTES} bytes in base64; restore it"
                )
            keys[hashlib.sha256(key).hexdigest()[:8]] = AESGCM(key)
        if not keys:
            raise StartupError(f"{path} holds no key; restore it")
        self._keys = keys

    def seal(self, text: str, purpose: str) -> str:
        """Return ``text`` sealed for ``purpose`` under the first key; UnavailableError without a key."""
        key_id, key = self._first()
        nonce = os.urandom(NONCE_BYTES)
        box = nonce + key.encrypt(nonce, text.encode(), purpose.encode())
        return f"{VERSION}.{key_id}.{base64.urlsafe_b64encode(box).decode()}"

    def open(self, sealed: str, purpose: str) -> str:
        """Return the text that was sealed for ``purpose``.

        ValueError if it is not whole or was sealed for something else; UnavailableError if its key is not here.
        """
        self._first()
        version, _, rest = sealed.partition(".")
        key_id, _, body = rest.partition(".")
        if version != VERSION or not body:
            raise ValueError("this was not sealed here")
        key = self._keys.get(key_id)
        if key is None:
            raise UnavailableError(_WRONG_KEY, internal=f"no key {key_id}")
        try:
            box = base64.b64decode(body, altchars=b"-_", validate=True)
            return key.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], purpose.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise ValueError("this is damaged, or was sealed for something else") from error

    def is_current(self, sealed: str) -> bool:
        """Tell whether a text is sealed, and under the first key."""
        return sealed.startswith(f"{VERSION}.{self._first()[0]}.")

    def _first(self) -> tuple[str, AESGCM]:
        for key_id, key in self._keys.items():
            return key_id, key
        raise UnavailableError(_NO_KEY)


_NO_KEY = (
    "this replica has no key for stored secrets; its operator names the factory's keys/secrets.key in "
    "PENSTOCK_SECRETS_KEY_FILE and starts it again"
)
_WRONG_KEY = (
    "a stored secret needs a key that is not in the factory's secrets.key; its operator restores that file"
)


def _make(path: Path) -> list[str]:
    line = base64.b64encode(os.urandom(KEY_BYTES)).decode()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").split()
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(f"{line}\n")
        stream.flush()
        os.fsync(stream.fileno())
    return [line]
