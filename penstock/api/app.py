"""The HTTP application: routers, error bodies, request ids, body limit, metrics."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from penstock import __version__
from penstock.actions.console_carry import Carrier
from penstock.api.edge import answer
from penstock.api.middleware import EdgeMiddleware
from penstock.api.openapi import describe
from penstock.base.errors import PenstockError, RateLimitedError

if TYPE_CHECKING:
    from penstock.control_plane import ControlPlane

log = structlog.get_logger(__name__)

# One module per noun; each has a ``router``.
ROUTERS = (
    "service",
    "autoscale",
    "objective",
    "rate_limit",
    "reservation",
    "maintenance",
    "health",
    "session",
    "whoami",
    "tenant",
    "project",
    "user",
    "totp",
    "identity",
    "service_account",
    "role_binding",
    "api_key",
    "quota",
    "policy",
    "audit",
    "event",
    "site",
    "rack",
    "power_feed",
    "power_budget",
    "sleep",
    "node",
    "host_log",
    "device",
    "device_class",
    "agent",
    "join_token",
    "model",
    "secret",
    "file",
    "batch",
    "knowledge_base",
    "document",
    "passage",
    "deletion_proof",
    "ssh_key",
    "image",
    "vm",
    "vm_series",
    "console_session",
    "weights",
    "volume",
    "drain",
    "network",
    "subnet",
    "port",
    "security_group",
    "network_host",
    "address_pool",
    "floating_address",
    "dns_record",
    "network_route",
    "network_peering",
    "flow",
    "public_record",
    "fabric_partition",
    "certificate",
    "load_balancer",
    "gateway",
    "usage",
    "offer",
    "price_book",
    "invoice",
    "report",
)


def create_app(control_plane: "ControlPlane") -> FastAPI:
    """Build the application over ``control_plane``."""
    app = FastAPI(
        title="Penstock",
        version=__version__,
        description="The control plane of an AI factory. Amounts of money are integers in micro-euro.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.control_plane = control_plane
    app.state.consoles = Carrier()
    for name in ROUTERS:
        # The very routes of the module, not copies of them: what is included is made again for every application.
        app.router.routes.extend(import_module(f"penstock.api.{name}").router.routes)
    add_edge(app)
    describe(app)
    return app


def add_edge(app: FastAPI) -> None:
    """Give an application what every one of ours has: documented error bodies, request ids, the body limit."""
    app.add_exception_handler(PenstockError, _on_penstock_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_defect)
    app.add_middleware(EdgeMiddleware)


def error_answer(request: Request, status: int, code: str, message: str, **more: Any) -> Response:
    """Return the documented error body."""
    request_id = request.scope.get("penstock_request_id", "")
    detail: dict[str, Any] = {
        "code": code,
        "message": message,
        "field": more.get("field"),
        "data": more.get("data") or {},
        "request_id": request_id,
    }
    return answer({"error": detail}, status)


async def _on_penstock_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PenstockError)  # noqa: S101 - narrows the type that Starlette erased
    if error.internal:
        log.warning("request_refused", code=error.code, internal=error.internal)
    response = error_answer(
        request, error.status, error.code, error.sentence, field=error.field, data=error.data
    )
    if isinstance(error, RateLimitedError):
        response.headers["Retry-After"] = str(error.data.get("retry_after_seconds", 1))
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows the type that Starlette erased
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    field = ".".join(path[1:]) if path and path[0] in {"body", "query", "path", "header"} else ".".join(path)
    where = path[0] if path else "body"
    message = f"{where} '{field}': {first['msg']}" if field else f"{where}: {first['msg']}"
    return error_answer(request, 422, "invalid_input", message, field=field or None)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows the type that Starlette erased
    # What is no JSON at all (bad bytes, too deep, too long a number) is a value that cannot be accepted.
    status = 422 if error.status_code == 400 else error.status_code
    code, message = {
        400: ("invalid_input", "the body cannot be read as JSON"),
        404: ("not_found", f"no such endpoint: {request.url.path}; see /v1/openapi.json"),
        405: ("method_not_allowed", f"{request.method} is not offered here; see /v1/openapi.json"),
    }.get(error.status_code, ("invalid_input", str(error.detail)))
    response = error_answer(request, status, code, message)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _on_defect(request: Request, error: Exception) -> Response:
    log.error("defect", path=request.url.path, exc_info=error)
    return error_answer(
        request, 500, "internal_error", "a defect of the product; please report it with the request id"
    )
