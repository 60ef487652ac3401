"""Public SSH keys as people paste them: one line, checked to be what it says."""

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256

from penstock.base import limits
from penstock.base.errors import InvalidInputError

KINDS = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_RSA_BYTES_MIN = 256  # 2,048 bits


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key without its comment, which may name a person, and its fingerprint as OpenSSH prints it."""

    kind: str
    line: str
    fingerprint: str


def parse(text: str) -> PublicKey:
    """Return the key in ``text``; InvalidInputError (field ``public_key``) says what it is not.

    The form is RFC 4253, section 6.6: the kind stands once more inside, as a string with its length before it.
    """
    if len(text) > limits.SSH_KEY_CHARACTERS_MAX:
        raise _refused(f"a key has {limits.SSH_KEY_CHARACTERS_MAX} characters at most")
    if "PRIVATE KEY" in text:
        raise _refused("this is a private key: keep it to yourself and give the file that ends in .pub")
    parts = text.strip().split()
    if "\n" in text.strip() or len(parts) < 2 or parts[0] not in KINDS:
        raise _refused(f"a public key is one line that begins with one of {', '.join(KINDS)}")
    kind, encoded = parts[0], parts[1]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise _refused("the second word of a key is base64") from error
    fields = _fields(blob)
    if not fields or fields[0] != kind.encode():
        raise _refused("the key is cut short, or it is of another kind than it says")
    if kind == "ssh-rsa" and (len(fields) < 3 or len(fields[2].lstrip(b"\0")) < _RSA_BYTES_MIN):
        raise _refused(
            "an RSA key needs 2048 bits or more; better make an Ed25519 key: ssh-keygen -t ed25519"
        )
    digest = base64.b64encode(sha256(blob).digest()).decode().rstrip("=")
    return PublicKey(kind, f"{kind} {encoded}", f"SHA256:{digest}")


def _fields(blob: bytes) -> list[bytes]:
    """Return the strings of a key, none if it is cut short."""
    found: list[bytes] = []
    at = 0
    while at < len(blob):
        length = int.from_bytes(blob[at : at + 4], "big")
        end = at + 4 + length
        if end > len(blob):
            return []
        found.append(blob[at + 4 : end])
        at = end
    return found


def _refused(sentence: str) -> InvalidInputError:
    return InvalidInputError(sentence, field="public_key")
