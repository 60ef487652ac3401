"""A request of a client, as it was parsed, and who answers it."""

from typing import Any, Protocol


class Request:
    """One parsed request."""

    __slots__ = (
        "authorization",
        "body",
        "chunked",
        "held_until",
        "keep_alive",
        "method",
        "priority",
        "session",
        "target",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        authorization: bytes,
        body: bytes,
        *,
        keep_alive: bool,
        chunked: bool,
        priority: bytes = b"",
        session: bytes = b"",
    ) -> None:
        self.method = method
        self.target = target
        self.authorization = authorization
        self.body = body
        self.keep_alive = keep_alive
        self.priority = priority
        self.session = session
        self.held_until: float | None = None  # it came before the news of its key or model
        self.chunked = chunked  # the client understands chunks: HTTP/1.1


class Application(Protocol):
    """What answers requests."""

    def handle(self, client: Any, request: Request) -> None:
        """Reply through ``client`` (a ``ClientConnection``), now or later; may raise ApiError."""
        ...
