"""The console as one application, which the process that serves the API mounts under ``/console``."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from penstock.actions.console_carry import Carrier
from penstock.actions.watch import Watchers
from penstock.base.errors import NotFoundError, PenstockError, UnauthenticatedError
from penstock.console.edge import refusal, visit_of

if TYPE_CHECKING:
    from penstock.control_plane import ControlPlane

log = structlog.get_logger(__name__)

# One module per noun; each has ``routes``.
PAGES = (
    "assets",
    "session",
    "oidc",
    "account",
    "home",
    "offer",
    "service",
    "reservation",
    "maintenance",
    "vm",
    "vm_snapshot",
    "vm_clone",
    "vm_console",
    "console_session",
    "image",
    "volume",
    "volume_clone",
    "volume_snapshot",
    "ssh_key",
    "batch",
    "autoscale",
    "objective",
    "rate_limit",
    "policy",
    "live",
    "playground",
    "knowledge_base",
    "document",
    "network",
    "network_host",
    "network_peering",
    "network_route",
    "subnet",
    "port",
    "security_group",
    "dns_record",
    "floating_address",
    "public_record",
    "flow",
    "load_balancer",
    "load_balancer_change",
    "fabric_node",
    "fabric_partition",
    "certificate",
    "api_key",
    "usage",
    "invoice",
    "quota",
    "user",
    "event",
    "audit",
    "floor",
    "node",
    "tenant",
    "agent",
    "price_book",
    "report",
    "placement",
    "power_budget",
    "power_feed",
    "sleep",
    "offer_editor",
    "search",
)


def create_console(control_plane: "ControlPlane", gateway_url: Callable[[], str]) -> Starlette:
    """Build the console over ``control_plane``; ``gateway_url`` says where the token gateway answers."""
    routes: list[BaseRoute] = []
    for name in PAGES:
        routes.extend(import_module(f"penstock.console.{name}").routes)
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _on_http_exception, Exception: _on_defect},
    )
    app.state.control_plane = control_plane
    app.state.consoles = Carrier()
    app.state.gateway_url = gateway_url
    app.state.tenant_names = dict[str, str]()
    app.state.watchers = Watchers(control_plane.wakeups)
    return app


def _on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what no page was found for; whoever is signed in keeps the menu."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    told = NotFoundError("there is no such page; go back or use the menu")
    try:
        visit = visit_of(request, {})
    except UnauthenticatedError:
        visit = None
    response = refusal(request, told, visit)
    response.status_code = status
    return response


def _on_defect(request: Request, error: Exception) -> Response:
    log.error("defect", path=request.url.path, exc_info=error)
    return refusal(
        request,
        PenstockError("this is a defect of the product; please report it with the request id below"),
        None,
    )
