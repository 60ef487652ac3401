"""Typing into the serial console of a machine from its page: the web socket that the page opens.

The cookie of the log-in says who it is, so only pages of this console may open it.
"""

from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from penstock.actions import console_socket
from penstock.actions.authenticate import authenticate
from penstock.actions.console_carry import Carrier
from penstock.actions.context import Actor, Context
from penstock.base.errors import PenstockError, UnauthenticatedError
from penstock.console.secure import SESSION_COOKIE, secured


async def session(socket: WebSocket) -> None:
    """Type into a machine's console until one of the sides goes."""
    context: Context = socket.app.state.control_plane.context
    carrier: Carrier = socket.app.state.consoles

    def who() -> Actor:
        actor = authenticate(
            context,
            socket.cookies.get(SESSION_COOKIE),
            source_address=socket.client.host if socket.client else "unknown",
            user_agent=socket.headers.get("user-agent", ""),
            request_id=socket.scope["penstock_request_id"],
        )
        if not actor.via_password:
            raise UnauthenticatedError("the console is entered with a password")
        return actor

    def refusal(error: PenstockError) -> Response:
        return secured(Response(error.sentence, status_code=error.status, media_type="text/plain"))

    vm_id = str(socket.path_params["vm_id"])
    await console_socket.serve(socket, context, carrier, vm_id, who, refusal, from_page=True)


routes = [WebSocketRoute("/machines/{vm_id}/console/session", session)]
