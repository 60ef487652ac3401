"""Asking a peer to rank texts by a question (``POST {base}/rerank``, as Jina, Cohere and vLLM have it), once and bounded."""

import ssl
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import httpcore
import orjson

from penstock import __version__
from penstock.base import limits
from penstock.base.addresses import Network
from penstock.base.errors import UnavailableError
from penstock.drivers.openai_compatible.peer import ANSWER_BYTES_MAX, JudgedBackend, NotPermittedError


def ask(
    base: str,
    body: Mapping[str, Any],
    secret: str | None,
    allowed: Iterable[Network],
    context: ssl.SSLContext | None = None,
) -> dict[str, Any]:
    """Return the peer's answer; raises UnavailableError, in which the secret never stands."""
    parts = urlsplit(base)
    headers = {
        "host": parts.netloc,
        "user-agent": f"penstock/{__version__}",
        "content-type": "application/json",
        "accept": "application/json",
    }
    if secret is not None:
        headers["authorization"] = f"Bearer {secret}"
    times = dict.fromkeys(("connect", "read", "write", "pool"), limits.EMBEDDING_SECONDS)
    judged = JudgedBackend(allowed, tls=parts.scheme == "https")
    try:
        with (
            httpcore.ConnectionPool(
                ssl_context=context or ssl.create_default_context(), network_backend=judged, retries=0
            ) as pool,
            pool.stream(
                "POST",
                f"{base}/rerank",
                headers=list(headers.items()),
                content=orjson.dumps(dict(body)),
                extensions={"timeout": times},
            ) as answer,
        ):
            raw = bytearray()
            for piece in answer.iter_stream():
                raw += piece
                if len(raw) > ANSWER_BYTES_MAX:
                    raise UnavailableError("the reranker's answer is endless; see whether it is one")
        document: object = orjson.loads(bytes(raw))
    except NotPermittedError as error:
        raise UnavailableError(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
        raise UnavailableError(
            "the reranker does not answer right now; try again, or search without", internal=repr(error)
        ) from error
    except orjson.JSONDecodeError as error:
        raise UnavailableError("the reranker's answer is none; see whether it is one") from error
    if answer.status != 200 or not isinstance(document, dict):
        raise UnavailableError(f"the reranker refused: it answers {answer.status}")
    return cast("dict[str, Any]", document)
