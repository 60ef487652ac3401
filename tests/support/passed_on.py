"""A control plane as a gateway sees it that passes files and batches on: what came, and answers of every framing."""

import hashlib
import http.server
import json
from collections.abc import Iterator

Passed = tuple[str, str, dict[str, str], str, int]  # method, target, headers, SHA-256 and size of the body


class PassedOn(http.server.BaseHTTPRequestHandler):
    """Answers what begins with ``/v1/`` and notes it in ``seen``; the rest is ``tell`` (GET) and ``take`` (POST)."""

    seen: list[Passed]

    def tell(self) -> None:
        """Answer any other GET."""
        raise NotImplementedError

    def take(self) -> None:
        """Answer any other POST."""
        raise NotImplementedError

    def do_GET(self) -> None:
        if not self._passed_on():
            self.tell()

    def do_POST(self) -> None:
        if not self._passed_on():
            self.take()

    def do_DELETE(self) -> None:
        self._passed_on()

    def _passed_on(self) -> bool:
        if not self.path.startswith("/v1/"):
            return False
        found, size = hashlib.sha256(), 0
        for piece in self._pieces():
            found.update(piece)
            size += len(piece)
        told = {name.lower(): value for name, value in self.headers.items()}
        self.seen.append((self.command, self.path, told, found.hexdigest(), size))
        if self.path.endswith("/content"):
            self._send_content()
            return True
        body = json.dumps({"id": "file_1", "bytes": size}).encode()
        self.send_response(200 if self.headers["authorization"] == "Bearer sk-test" else 401)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return True

    def _send_content(self) -> None:
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for _ in range(64):
            self.wfile.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _pieces(self) -> Iterator[bytes]:
        left = int(self.headers.get("content-length", 0))
        while left:
            piece = self.rfile.read(min(left, 65_536))
            if not piece:
                return
            left -= len(piece)
            yield piece
        while self.headers.get("transfer-encoding") == "chunked":
            size = int(self.rfile.readline() or b"0", 16)
            yield self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return
