"""A server of OpenAI's API that somebody else runs: what it answers to the question for its models is the test's choice."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Peer:
    """A server whose answers the test chooses."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        peer = self
        self.status, self.body = 200, json.dumps({"data": [{"id": "m"}, {"id": "other"}]}).encode()
        self.seen: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Note who asks, and answer."""
                peer.seen.append(self.headers.get("authorization"))
                self.send_response(peer.status)
                self.send_header("content-length", str(len(peer.body)))
                self.end_headers()
                self.wfile.write(peer.body)

            def log_message(self, *args: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as few names as needed
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop answering."""
        self.server.shutdown()
        self.server.server_close()
