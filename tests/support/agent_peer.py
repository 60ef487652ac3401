"""An agent as the wire sees it: its own key, a certificate of the factory, JSON over mutual TLS."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from penstock.drivers.pki.certificates import key_pem, new_key, new_request


@dataclass(frozen=True)
class Peer:
    """A client with the certificate and key in ``file``; None: without a certificate."""

    url: str
    ca_pem: str
    file: Path | None = None

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send one request over a connection of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.ca_pem)
        if self.file is not None:
            context.load_cert_chain(self.file)
        with httpx.Client(base_url=self.url, verify=context, timeout=30.0) as client:
            return client.request(method, path, **more)

    def get(self, path: str, **params: Any) -> httpx.Response:
        """GET with query parameters."""
        return self.request("GET", path, params=params)

    def post(self, path: str, body: Any) -> httpx.Response:
        """POST ``body`` as JSON."""
        return self.request("POST", path, json=body)


def join(url: str, ca_pem: str, token: str, folder: Path, name: str = "peer") -> tuple[httpx.Response, Peer]:
    """Send a join; return the answer and, if it was a success, the peer with its certificate."""
    key, csr_pem = make_request(name)
    answer = Peer(url, ca_pem).post("/v1/agents/join", {"token": token, "csr_pem": csr_pem, "name": name})
    if not answer.is_success:
        return answer, Peer(url, ca_pem)
    file = folder / f"{answer.json()['agent_id']}.pem"
    file.write_text(answer.json()["certificate_pem"] + key)
    return answer, Peer(url, ca_pem, file)


def make_request(name: str) -> tuple[str, str]:
    """Return a new key and a signing request for it, both in PEM."""
    key = new_key()
    return key_pem(key).decode("ascii"), new_request(key, name)
