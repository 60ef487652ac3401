"""Refusals in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``.

Every message says what to do. ``Retry-After`` goes with everything that may work later;
``x-should-retry: false`` tells the official clients not to repeat what cannot work.
"""

import orjson

_NO_RETRY = b"x-should-retry: false\r\n"


class ApiError(Exception):
    """An answer that refuses or reports a failure; ``headers`` are complete extra header lines."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        headers: bytes = b"",
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.kind = kind
        self.param = param
        self.headers = headers
        self.close = close
        self.final = False  # no news will change it

    def body(self) -> bytes:
        """Return the JSON body."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})

    def event(self) -> bytes:
        """Return the server-sent event that ends a stream which can no longer change its status."""
        return b"data: " + self.body() + b"\n\n"


def bad_request(message: str, *, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """Return a 400 about one field of the body."""
    return ApiError(400, code, message, param=param)


def malformed() -> ApiError:
    """Return the answer to bytes that are not HTTP."""
    return ApiError(400, "malformed_http", "This is not an HTTP/1.1 request; check the client.", close=True)


def head_too_large() -> ApiError:
    """Return the answer to a head over its limit."""
    message = "The request's headers are over the limit; send fewer or shorter ones."
    return ApiError(431, "headers_too_large", message, close=True)


def body_too_large(limit_bytes: int) -> ApiError:
    """Return the answer to a body over ``limit_bytes``."""
    message = f"The request body is over {limit_bytes} bytes; shorten the prompt."
    return ApiError(413, "request_too_large", message, close=True)


def too_slow() -> ApiError:
    """Return the answer to a request that did not arrive in time."""
    message = "The request did not arrive in time; send it again, faster."
    return ApiError(408, "request_timeout", message, close=True)


def too_many_pipelined() -> ApiError:
    """Return the answer to more requests behind one another on a connection than may wait."""
    message = "Too many requests wait on this connection; wait for the answers or open more connections."
    return ApiError(400, "too_many_pipelined", message, close=True)


def internal() -> ApiError:
    """Return the answer when the gateway itself is at fault; the log has the reason."""
    message = "The gateway failed on this request; try again, and tell the operator if it happens again."
    return ApiError(500, "internal_error", message, kind="server_error", close=True)


def no_route(path: str) -> ApiError:
    """Return the answer to an unknown path."""
    message = (
        f"There is nothing at {path[:200]}; this gateway serves /v1/chat/completions, /v1/completions, "
        "/v1/embeddings, /v1/rerank, /v1/models, and in a factory /v1/files and /v1/batches."
    )
    return ApiError(404, "unknown_url", message)


def wrong_method(allowed: str) -> ApiError:
    """Return the answer to a known path with another method."""
    message = f"This address takes {allowed} only."
    return ApiError(405, "method_not_allowed", message, headers=b"allow: " + allowed.encode() + b"\r\n")


def missing_key() -> ApiError:
    """Return the answer to a request without a credential."""
    message = "No API key was sent; send the header 'Authorization: Bearer <key>'."
    return ApiError(401, "missing_api_key", message, headers=b"www-authenticate: Bearer\r\n")


def invalid_key() -> ApiError:
    """Return the answer to an unknown, revoked or expired key: the three look the same."""
    message = (
        "This API key is unknown, revoked or expired; create one with `penstock key create NAME --scope llm`."
    )
    return ApiError(401, "invalid_api_key", message, headers=b"www-authenticate: Bearer\r\n")


def revoked_key() -> ApiError:
    """Return the same answer for a key that is known to be gone; it is not worth waiting for."""
    error = invalid_key()
    error.final = True
    return error


def missing_scope() -> ApiError:
    """Return the answer to a key that may not call models."""
    message = "This API key has no scope 'llm'; create one that has it."
    return ApiError(403, "insufficient_scope", message, kind="permission_error")


def model_not_found(name: str) -> ApiError:
    """Return the answer to a model that does not exist or belongs to somebody else: the two look the same."""
    message = (
        f"The model '{name[:200]}' does not exist or this key has no access to it; "
        "GET /v1/models lists what it can use."
    )
    return ApiError(404, "model_not_found", message, param="model")


def rate_limited(message: str, *, kind: str, retry_after_seconds: int, headers: bytes = b"") -> ApiError:
    """Return a 429 of a key's limit; ``kind`` is ``requests`` or ``tokens``."""
    lines = b"retry-after: %d\r\n" % retry_after_seconds + headers
    return ApiError(429, "rate_limit_exceeded", message, kind=kind, headers=lines)


def over_token_limit(message: str, headers: bytes = b"") -> ApiError:
    """Return a 429 of a single request that is larger than the limit itself: waiting does not help."""
    return ApiError(429, "rate_limit_exceeded", message, kind="tokens", headers=_NO_RETRY + headers)


def insufficient_quota(message: str, *, retry_after_seconds: int = 3_600) -> ApiError:
    """Return a 429 of tokens or money that are spent for the day or the month."""
    headers = _NO_RETRY + b"retry-after: %d\r\n" % retry_after_seconds
    return ApiError(429, "insufficient_quota", message, kind="insufficient_quota", headers=headers)


def unavailable(code: str, message: str, *, retry_after_seconds: int = 1, close: bool = False) -> ApiError:
    """Return a 503: a part the request needs is away or full right now."""
    headers = b"retry-after: %d\r\n" % retry_after_seconds
    return ApiError(503, code, message, kind="server_error", headers=headers, close=close)


def engine_failed(code: str, message: str, status: int = 502) -> ApiError:
    """Return the answer when the engine behind the model broke, answered nonsense or went silent."""
    return ApiError(status, code, message, kind="server_error")
