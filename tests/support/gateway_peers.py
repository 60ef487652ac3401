"""What a gateway meets in a test: a stand-in engine, a control plane that tells and takes, and itself as a process."""

import hashlib
import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.passed_on import PassedOn

_ROOT = Path(__file__).parents[2]
_ENGINE = _ROOT / "bench" / "mock_engine.py"
_GATEWAY = "import sys; from penstock.gateway.main import run; sys.exit(run(sys.argv[1:]))"
TOKEN = "gateway-token"


class Process:
    """A child that says on its first line where it listens."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=file, text=True, cwd=_ROOT
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it did not start: {log.read_text()}"
        self.port = int(line.strip().rpartition(":" if ":" in line.split()[-1] else " ")[2])
        self.base = f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """Return the decoded JSON at ``path``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return json.load(connection.getresponse())
        finally:
            connection.close()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(40)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


class Engine(Process):
    """The stand-in of bench/mock_engine.py, which keeps the true count."""

    def __init__(self, folder: Path, *flags: str, port: int = 0) -> None:
        super().__init__([str(_ENGINE), "--port", str(port), *flags], folder / "engine.log")

    def counts(self) -> dict[str, list[int]]:
        """Return [prompt, completion] tokens by request id, as really generated."""
        found: dict[str, list[int]] = self.get("/stats")["by_id"]
        return found


class Gateway(Process):
    """A gateway process."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(["-c", _GATEWAY, *arguments], folder / "gateway.log")

    @property
    def url(self) -> str:
        """Return the base URL for clients."""
        return self.base + "/v1"


def start_refused(*arguments: str) -> tuple[int, str]:
    """Run a gateway that must not start; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", _GATEWAY, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=_ROOT,
    )
    return done.returncode, done.stderr


def configuration(
    folder: Path, engines: list[str], *, key: str = "", more: str = "", settings: str = ""
) -> Path:
    """Write a standalone configuration with the key ``sk-test`` and the model ``test-model``; return its path."""
    path = folder / "gateway.toml"
    path.write_text(
        f"""listen = "127.0.0.1:0"
ledger = "ledger"
[settings]
{settings}
[[keys]]
id = "key_test"
key = "sk-test"
{key}
[[models]]
name = "test-model"
model = "engine-model"
upstreams = [{", ".join(engines)}]
{more}
"""
    )
    return path


def upstream(engine: Engine, *, cancel: bool = True) -> str:
    """Return an engine as an inline table of the configuration."""
    return f'{{ url = "{engine.base}", cancel = {str(cancel).lower()} }}'


def ledger(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the final records of a journal folder by id; fails on one that is there twice."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if not record.get("progress"):
                assert record["id"] not in found, "a record is in the journal twice"
                found[record["id"]] = record
    return found


def completions(
    port: int, body: dict[str, Any], key: str = "sk-test", path: str = "/v1/chat/completions"
) -> tuple[int, dict[str, str], Any]:
    """POST one request on a connection of its own; return status, headers and decoded body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(raw)
    finally:
        connection.close()


def ask(text: str = "hello", **more: Any) -> dict[str, Any]:
    """Return a chat request for ``test-model``."""
    return {"model": "test-model", "messages": [{"role": "user", "content": text}], **more}


def key_entry(secret: str, **changes: Any) -> dict[str, Any]:
    """Return one key of a snapshot."""
    entry = {
        "id": f"key_{secret}",
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "tenant": "ten_a",
        "project": "prj_a",
        "principal": "usr_a",
        "scopes": ["llm"],
        "expires_at_us": None,
        "requests_per_minute": None,
        "tokens_per_minute": None,
    }
    return {**entry, **changes}


def model_entry(url: str, **changes: Any) -> dict[str, Any]:
    """Return one model of a snapshot."""
    entry = {
        "name": "test-model",
        "service": "svc_a",
        "tenant": "ten_a",
        "project": "prj_a",
        "model": "engine-model",
        "upstreams": [{"id": "alc_a", "url": url, "cancel": True}],
    }
    return {**entry, **changes}


class ControlPlane:
    """The two internal endpoints of a control plane, on the loopback, with the true semantics.

    Snapshots are long-polled by version; usage is taken once by id and counted as duplicate after that.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.snapshot: dict[str, Any] = {"version": 1, "keys": [], "tenants": [], "models": []}
        self.records: dict[str, dict[str, Any]] = {}
        self.duplicates = 0
        self.deliveries = 0
        self.refuse_ids: set[str] = set()
        self.closing = False
        self.polls: list[int] = []
        self.forwarded: list[tuple[str, str, dict[str, str], str, int]] = []  # what gateways passed on
        self._server: http.server.ThreadingHTTPServer | None = None
        self.port = 0

    def start(self) -> None:
        """Listen; again on the same port after ``stop``."""
        plane = self

        class Handler(PassedOn):
            protocol_version = "HTTP/1.1"
            seen = plane.forwarded

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
                del format, args

            def reply(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.close_connection = plane.closing
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def tell(self) -> None:
                if self.headers["authorization"] != f"Bearer {TOKEN}":
                    self.reply(401, {})
                    return
                if plane.closing:
                    self.reply(503, {})
                    return
                query = dict(part.split("=") for part in self.path.partition("?")[2].split("&"))
                self.reply(200, plane.wait(int(query["since"]), float(query["wait_seconds"])))

            def take(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.headers["authorization"] != f"Bearer {TOKEN}":
                    self.reply(401, {})
                    return
                self.reply(*plane.take(body["records"]))

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                del request, client_address  # a peer that went away in the middle is what these tests do

        self.closing = False
        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """Return the address for ``--control-plane``."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Go away: refuse connections and end the polls that hang."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def publish(self, **changes: Any) -> int:
        """Change the snapshot; return the new version."""
        with self.changed:
            self.snapshot = {**self.snapshot, **changes, "version": self.snapshot["version"] + 1}
            self.changed.notify_all()
            return int(self.snapshot["version"])

    def wait(self, since: int, seconds: float) -> dict[str, Any]:
        """Answer a poll: the snapshot when it is another one, else only its version after the wait."""
        with self.changed:
            self.polls.append(since)
            self.changed.wait_for(lambda: self.closing or self.snapshot["version"] != since, seconds)
            same = self.snapshot["version"] == since
            return {"version": since} if same else self.snapshot

    def take(self, records: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        """Take usage, each id once; all or nothing."""
        with self.changed:
            if self.closing:
                return 503, {}
            if any(record["id"] in self.refuse_ids for record in records):
                return 422, {}
            self.deliveries += 1
            fresh = [record for record in records if record["id"] not in self.records]
            self.records.update({record["id"]: record for record in fresh})
            self.duplicates += len(records) - len(fresh)
            return 200, {"accepted": len(fresh), "duplicate": len(records) - len(fresh)}


def factory_arguments(folder: Path, plane: ControlPlane) -> list[str]:
    """Return the arguments of a gateway of a factory, with its token written."""
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    os.chmod(token, 0o600)  # noqa: PTH101 - as an operator would
    return [
        *("--listen", "127.0.0.1:0", "--control-plane", plane.url),
        *("--token-file", str(token), "--data", str(folder / "data"), "--name", "gw-test"),
    ]
