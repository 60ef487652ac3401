"""Other people's keys in the cached snapshot: sealed by the gateway's own token, which lies in another file.

The cache must hold them, because a gateway that starts while the control plane is away serves from it alone.
"""

import base64
import hashlib
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import orjson

_PREFIX = "sealed:"
_NONCE_BYTES = 12


def sealed(raw: bytes, token: str) -> bytes:
    """Return a snapshot document with every ``api_key`` sealed; one without any stays as it is, byte for byte."""
    if b'"api_key"' not in raw:
        return raw
    cipher = _cipher(token)

    def seal(key: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        return _PREFIX + base64.b64encode(nonce + cipher.encrypt(nonce, key.encode(), None)).decode()

    return _with_keys(raw, seal)


def opened(raw: bytes, token: str) -> bytes:
    """Return the document as it came; raises ValueError if the token is another one than it was sealed by."""
    if b'"api_key"' not in raw:
        return raw
    cipher = _cipher(token)
    invalid: type[Exception] = import_module("cryptography.exceptions").InvalidTag

    def open_(key: str) -> str:
        box = base64.b64decode(key.removeprefix(_PREFIX))
        try:
            return str(cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], None).decode())
        except invalid as error:
            raise ValueError("the cached keys were sealed by another token") from error

    return _with_keys(raw, open_)


def _cipher(token: str) -> Any:
    """Return the cipher; loaded at first use, because most gateways never need it."""
    key = hashlib.sha256(b"penstock snapshot cache\0" + token.encode()).digest()
    return import_module("cryptography.hazmat.primitives.ciphers.aead").AESGCM(key)


def _with_keys(raw: bytes, change: Callable[[str], str]) -> bytes:
    document = cast("dict[str, Any]", orjson.loads(raw))
    for model in document.get("models", ()):
        for upstream in model["upstreams"]:
            if upstream.get("api_key"):
                upstream["api_key"] = change(upstream["api_key"])
    return orjson.dumps(document)
