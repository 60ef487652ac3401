"""A stand-in OpenID provider that says whatever a test wants, right or forged."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey


@dataclass
class Forger:
    """Answers as a provider; ``claims``, ``header`` and ``key`` make the next ID token."""

    issuer: str
    key: Any
    published: Any
    claims: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": "one"})
    described: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    raw_token: str | None = None
    forms: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def token(self) -> str:
        """Return the ID token."""
        if self.raw_token is not None:
            return self.raw_token
        return jwt.encode(self.header, self.claims, self.key, algorithms=[self.header["alg"]])

    def answer(self, path: str) -> dict[str, Any] | None:
        """Return the document at a path."""
        self.asked.append(path)
        documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/auth",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "userinfo_endpoint": f"{self.issuer}/me",
                **self.described,
            },
            "/keys": self.published.as_dict(private=False),
            "/me": self.more,
        }
        if path == "/token":
            return {"id_token": self.token(), "access_token": "opaque", "token_type": "Bearer"}
        return documents.get(path)


def key_named(name: str) -> RSAKey:
    """Return a fresh RSA key."""
    return RSAKey.generate_key(2048, {"kid": name})


def shared_secret(text: str) -> OctKey:
    """Return a symmetric key."""
    return OctKey.import_key(text)


@contextmanager
def forger(key: RSAKey) -> Iterator[Forger]:
    """Serve a forger on a port of the kernel's choice; ``key`` is published."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(made.answer(self.path))

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            made.forms.append(self.rfile.read(length).decode())
            self._send(made.answer(self.path))

        def _send(self, document: dict[str, Any] | None) -> None:
            body = json.dumps(document or {}).encode()
            self.send_response(200 if document is not None else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Forger(f"http://127.0.0.1:{server.server_address[1]}", key, KeySet([key]))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        server.shutdown()
        thread.join()
