"""Typing into the serial console of a machine, over a web socket; a key in the header lets in, never one in the address.

Bytes are keys one way and what the machine writes the other way; texts are words about the session. It needs the rights
`vm_console:open` and `vm_console:write`. What OpenAPI cannot describe is in docs/guides/vms-and-networks.md.
"""

from fastapi import APIRouter, WebSocket
from fastapi.responses import Response

from penstock.actions import console_socket
from penstock.actions.authenticate import authenticate
from penstock.actions.console_carry import Carrier
from penstock.actions.context import Actor, Context
from penstock.api.edge import answer
from penstock.base.errors import PenstockError

router = APIRouter(prefix="/v1/vms", tags=["vms"])


@router.websocket("/{vm_id}/console/session")
async def console_session(socket: WebSocket, vm_id: str) -> None:
    """Type into a machine's console until one of the sides goes."""
    context: Context = socket.app.state.control_plane.context
    carrier: Carrier = socket.app.state.consoles
    scheme, _, credential = socket.headers.get("authorization", "").partition(" ")

    def who() -> Actor:
        return authenticate(
            context,
            credential.strip() if scheme.lower() == "bearer" else None,
            source_address=socket.client.host if socket.client else "unknown",
            user_agent=socket.headers.get("user-agent", ""),
            request_id=socket.scope["penstock_request_id"],
        )

    def refusal(error: PenstockError) -> Response:
        detail = {
            "code": error.code,
            "message": error.sentence,
            "field": error.field,
            "data": error.data,
            "request_id": socket.scope["penstock_request_id"],
        }
        return answer({"error": detail}, error.status)

    await console_socket.serve(socket, context, carrier, vm_id, who, refusal, from_page=False)
