"""One HTTP call to the control plane, and its answer as JSON or as one of our errors."""

import ssl
from collections.abc import Mapping
from typing import Any, cast

import httpx
import orjson

from penstock.base.errors import (
    DriverError,
    InvalidInputError,
    PenstockError,
    TooLargeError,
    UnavailableError,
    error_classes,
)

ANSWER_BYTES_MAX = 64 << 20
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0


def client(url: str, tls: ssl.SSLContext) -> httpx.Client:
    """Return a client for the control plane at ``url``; a proxy of the environment is used where one is set."""
    return httpx.Client(
        base_url=url, verify=tls, timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    )


def call(
    http: httpx.Client,
    method: str,
    path: str,
    body: object = None,
    *,
    query: Mapping[str, str] | None = None,
    wait_seconds: float = 0.0,
) -> Any:
    """Make a call and return its answer as JSON; ``wait_seconds`` is how long the answer may be held back.

    Every call here may be repeated, so one that died on a connection the other side had just closed is made
    once more. Raises the error that the control plane names by its code, UnavailableError if it cannot be
    reached or does not speak as Penstock does.
    """
    timeout = httpx.Timeout(ANSWER_SECONDS + wait_seconds, connect=CONNECT_SECONDS)
    content = None if body is None else orjson.dumps(body)
    headers = {} if content is None else {"content-type": "application/json"}
    request = http.build_request(
        method, path, content=content, headers=headers, params=query, timeout=timeout
    )
    try:
        status, answer = _send(http, request)
    except httpx.RemoteProtocolError:
        try:
            status, answer = _send(http, request)
        except httpx.RequestError as error:
            raise _unreachable(http, error) from error
    except httpx.RequestError as error:
        raise _unreachable(http, error) from error
    try:
        found = orjson.loads(answer) if answer else None
    except orjson.JSONDecodeError as error:
        raise _stranger(http, status) from error
    if status >= 300:
        raise _refusal(http, status, found)
    return found


def _send(http: httpx.Client, request: httpx.Request) -> tuple[int, bytes]:
    response = http.send(request, stream=True)
    try:
        parts: list[bytes] = []
        size = 0
        for part in response.iter_bytes():
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                raise UnavailableError(
                    f"the control plane at {http.base_url} sent more than {ANSWER_BYTES_MAX} bytes"
                )
            parts.append(part)
        return response.status_code, b"".join(parts)
    finally:
        response.close()


def _refusal(http: httpx.Client, status: int, body: Any) -> PenstockError:
    said = cast("dict[str, Any]", body).get("error") if isinstance(body, dict) else None
    if not isinstance(said, dict):
        return _stranger(http, status)
    error = cast("dict[str, Any]", said)
    kind = error_classes().get(str(error.get("code")))
    if kind is None:
        kind = InvalidInputError if 400 <= status < 500 else DriverError
    if status == TooLargeError.status:
        kind = TooLargeError
    field, data = error.get("field"), error.get("data")
    return kind(
        str(error.get("message") or f"the control plane answered with status {status}"),
        field=field if isinstance(field, str) else None,
        data=cast("dict[str, object]", data) if isinstance(data, dict) else None,
    )


def _unreachable(http: httpx.Client, error: httpx.RequestError) -> UnavailableError:
    said = str(error) or type(error).__name__
    if any(word in said for word in ("certificate has expired", "certificate is not yet valid")):
        return UnavailableError(
            f"the certificate of {http.base_url} is not valid at this machine's time: set the clocks of both machines",
            internal=said,
        )
    if "ALERT_CERTIFICATE_EXPIRED" in said:
        return UnavailableError(
            "the certificate of this agent has expired: join again with `penstock agent join --replace` and a new "
            "token",
            internal=said,
        )
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return UnavailableError(
            f"who answers at {http.base_url} is not the factory that this agent joined: check the address, or "
            "join again with a new token",
            internal=said,
        )
    return UnavailableError(
        f"the control plane at {http.base_url} cannot be reached: {said}", internal=repr(error)
    )


def _stranger(http: httpx.Client, status: int) -> UnavailableError:
    return UnavailableError(
        f"who answers at {http.base_url} does not speak as Penstock does (status {status}): check the address"
    )
