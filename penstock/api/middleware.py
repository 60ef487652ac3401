"""The outermost layer: request ids, the body limit, request metrics. Plain ASGI, because it is on every path."""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress

import orjson
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.base import limits

REQUESTS = Counter(
    "penstock_api_requests_total", "API requests by route and status.", ("method", "route", "status")
)
SECONDS = Histogram(
    "penstock_api_request_seconds",
    "Time to answer by route.",
    ("route",),
    buckets=(0.001, 0.003, 0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
)


_DOCUMENTS = re.compile(r"(/v1/knowledge_bases|/console/knowledge)/[^/]+/documents\Z")
_IMAGES = re.compile(r"(/v1|/v1/agents/self|/console)/images/[^/]+/content\Z")
_ORDERS = ("/v1/vms", "/v1/services")
_FORM_BYTES = 64 << 10  # what a form has around its file


class _TooLarge(Exception):  # noqa: N818 - a signal inside this file, never seen outside
    """The body passed its limit."""


class EdgeMiddleware:
    """Give each request an id, bound its body, count it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = "req_" + os.urandom(10).hex()
        scope["penstock_request_id"] = request_id
        started = time.perf_counter()
        status = 500
        answered = False
        received = 0
        over = False
        limit = _body_limit(scope)

        async def bounded_receive() -> Message:
            nonlocal received, over
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    over = True
                    raise _TooLarge
            return message

        async def marked_send(message: Message) -> None:
            nonlocal status, answered
            if over and not answered:
                return  # whoever read the body made something else of the signal; the answer is ours, below
            if message["type"] == "http.response.start":
                status, answered = message["status"], True
                message["headers"] = _with_ours(message["headers"], request_id)
            await send(message)

        try:
            over = _declared_length(scope) > limit
            if not over:
                with suppress(_TooLarge):  # answered below, with what others made of it
                    await self._app(scope, bounded_receive, marked_send)
            if over and not answered:
                over = False
                await _send_too_large(marked_send, request_id, limit)
        finally:
            route = scope.get("route")
            # What is mounted, as the console is, matches below where it is mounted.
            found = getattr(route, "path", None)
            path = "unmatched" if found is None else f"{scope.get('root_path', '')}{found}"
            REQUESTS.labels(scope["method"], path, str(status)).inc()
            SECONDS.labels(path).observe(time.perf_counter() - started)


def _with_ours(headers: Sequence[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with ours; what may be kept, such as a file of the console, says so itself."""
    ours = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
    if all(name != b"cache-control" for name, _ in headers):
        ours.append((b"cache-control", b"no-store"))
    return [*headers, *ours]


def _body_limit(scope: Scope) -> int:
    """Return the limit of a body: documents and files are larger than everything else that is sent here."""
    if _DOCUMENTS.match(scope["path"]) and scope["method"] == "POST":
        return limits.DOCUMENT_BYTES_MAX
    if scope["path"] in ("/v1/files", "/console/batches/files") and scope["method"] == "POST":
        return limits.FILE_BYTES_MAX + _FORM_BYTES
    if _IMAGES.match(scope["path"]) and scope["method"] in ("PUT", "POST"):
        return limits.IMAGE_BYTES_MAX
    if scope["path"] in _ORDERS and scope["method"] == "POST":
        return limits.VM_ORDER_BYTES_MAX
    return limits.BODY_BYTES_MAX


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def _send_too_large(send: Send, request_id: str, limit: int) -> None:
    body = orjson.dumps(
        {
            "error": {
                "code": "too_large",
                "message": f"the body is over the limit of {limit} bytes",
                "field": None,
                "data": {"limit_bytes": limit},
                "request_id": request_id,
            }
        }
    )
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
