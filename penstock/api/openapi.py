"""The OpenAPI document: what FastAPI derives, and how callers identify themselves.

``python -m penstock.api.openapi`` writes docs/reference/openapi.json; a habit test checks it for drift.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

if TYPE_CHECKING:
    from penstock.control_plane import ControlPlane

# Endpoints that answer without a credential, and why.
OPEN: dict[str, str] = {
    "/healthz": "a load balancer asks it",
    "/metrics": "Prometheus scrapes it on loopback; it names no tenant",
    "/v1/openapi.json": "a client reads it before it has a key",
    "/v1/sessions": "it is where a key comes from",
}
_SCHEMES = {
    "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key: psk_..."},
    "gatewayToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of a gateway of this factory.",
    },
}


def describe(app: FastAPI) -> None:
    """Make ``app.openapi()`` return the whole document, with security; built once."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            app.openapi_schema = _with_security(document)
        return app.openapi_schema

    app.openapi = build


def _with_security(document: dict[str, Any]) -> dict[str, Any]:
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        scheme = "gatewayToken" if path.startswith("/internal/") else "apiKey"
        for method, operation in operations.items():
            is_open = path in OPEN and (path != "/v1/sessions" or method == "post")
            operation["security"] = [] if is_open else [{scheme: []}]
    return document


def text() -> str:
    """Return the document as it is committed: sorted keys, two spaces, a newline at the end."""
    from penstock.api.app import create_app  # noqa: PLC0415 - app imports this module

    app = create_app(cast("ControlPlane", None))
    return json.dumps(app.openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/reference/openapi.json")
    target.write_text(text(), "utf-8")
