"""Asking a peer which models it has: over TLS that is verified, at an address that was judged, and for a short time."""

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httpcore
import orjson

from penstock import __version__
from penstock.base.addresses import Network, is_inside, is_public
from penstock.drivers.openai_compatible.config import PeerConfig

ANSWER_BYTES_MAX = 4 << 20
SECONDS_MAX = 10.0
MODELS_SHOWN_MAX = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a peer found: ``code`` None is a peer that serves; ``lasting`` needs another order to change."""

    code: str | None = None
    message: str = ""
    lasting: bool = False


SERVES = Verdict()


class NotPermittedError(Exception):
    """A name leads to an address that tenants must not be led to."""


class JudgedBackend(httpcore.SyncBackend):
    """Connects to addresses that may be reached: public ones over https, and those of ``allowed``."""

    def __init__(self, allowed: Iterable[Network], *, tls: bool) -> None:
        self._allowed = tuple(allowed)
        self._tls = tls

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Look the name up, judge every address, connect to the first."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            if not (is_inside(address, self._allowed) or (self._tls and is_public(address))):
                raise NotPermittedError(f"'{host[:200]}' leads to an address that may not be reached")
        return super().connect_tcp(str(addresses[0]), port, timeout, local_address, socket_options)


def look(
    config: PeerConfig, secret: str | None, allowed: Iterable[Network], context: ssl.SSLContext | None = None
) -> Verdict:
    """Return whether the peer lists the model; never raises for what a peer may do. The secret is in no verdict."""
    parts = urlsplit(config.base)
    times = dict.fromkeys(("connect", "read", "write", "pool"), SECONDS_MAX)
    headers = {"host": parts.netloc, "user-agent": f"penstock/{__version__}", "accept": "application/json"}
    if secret is not None:
        headers["authorization"] = f"Bearer {secret}"
    tls = parts.scheme == "https"
    try:
        with (
            httpcore.ConnectionPool(
                ssl_context=context or ssl.create_default_context(),
                network_backend=JudgedBackend(allowed, tls=tls),
                retries=0,
            ) as pool,
            pool.stream(
                "GET", config.base + "/models", headers=list(headers.items()), extensions={"timeout": times}
            ) as answer,
        ):
            body = bytearray()
            for piece in answer.iter_stream():
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    return Verdict("peer_broken", "the server's list of models is endless")
            return _judge(config, answer.status, bytes(body))
    except NotPermittedError as error:
        return Verdict("peer_not_permitted", str(error), lasting=True)
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
        what = "its certificate cannot be verified" if "CERTIFICATE" in str(error) else str(error)[:200]
        return Verdict("peer_silent", f"the server does not answer: {what or type(error).__name__}")


def _judge(config: PeerConfig, status: int, body: bytes) -> Verdict:
    if status in (401, 403):
        return Verdict(
            "peer_refused", f"the server answers {status}: the secret is not accepted there", lasting=True
        )
    if status in (404, 405):
        return SERVES  # it has no list of models: the first request shows
    if status != 200:
        return Verdict("peer_silent", f"the server answers {status} to the question for its models")
    names = _names(body)
    if names is None:
        return Verdict("peer_broken", "what answers there is no server of OpenAI's API", lasting=True)
    if config.served_model_name not in names:
        listed = ", ".join(sorted(names)[:MODELS_SHOWN_MAX]) or "none"
        return Verdict(
            "peer_model_missing",
            f"the server has no model '{config.served_model_name}'; it lists: {listed}"[:500],
        )
    return SERVES


def _names(body: bytes) -> set[str] | None:
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    data = cast("dict[str, object]", document).get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return None
    entries = [cast("dict[str, object]", one) for one in cast("list[object]", data) if isinstance(one, dict)]
    return {str(one["id"]) for one in entries if "id" in one}
