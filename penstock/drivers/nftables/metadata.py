"""The metadata service: one process per host, which answers at 169.254.169.254 in every network's namespace.

It also writes the flow log: what the kernel tells of packets, to ``flows.jsonl`` beside each network's file, and of
spoofed ones to the one in FOLDER itself.

``python -m penstock.drivers.nftables.metadata FOLDER EDITION`` looks at FOLDER: each subfolder with a ``metadata.json`` is
a network, its file names the namespace and says what each guest may read, by the guest's address; user data is read
from a file beside it (``guest_files``). The guard has made sure that a packet's source address is its sender's. Version 2 of the protocol only: a session token is got by PUT,
which a guest's web server that can be talked into fetching addresses does not send; answers travel one hop.
"""

import base64
import hashlib
import hmac
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import orjson

from penstock.domain.network import METADATA_ADDRESS
from penstock.drivers.network.model import HostNetwork
from penstock.drivers.nftables import guest_files
from penstock.drivers.nftables.ending import end
from penstock.drivers.nftables.flows import Listener
from penstock.drivers.nftables.guard import LOG_GROUP as GUARD_LOG_GROUP
from penstock.drivers.nftables.namespaces import inside
from penstock.drivers.nftables.rules import LOG_GROUP as RULES_LOG_GROUP

FILE = "metadata.json"
FLOWS = "flows.jsonl"
FLOWS_BYTES_MAX = 8 << 20  # of each file; as much again is kept from before
_PID = "metadata.pid"
_LOOK_SECONDS = 0.25
_TOKEN_SECONDS_MAX = 21_600
_REQUEST_SECONDS = 10.0
_BACKLOG = 64
_ASK = "x-aws-ec2-metadata-token-ttl-seconds"
_SHOW = "x-aws-ec2-metadata-token"
_VERSIONS = (
    "2009-04-04",
    "latest",
)  # of the protocol: what cloud-init asks for at least, and what a person does
# Which code a process runs: it outlives the agent, and an agent of another version starts its own.
_EDITION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


# -- the driver's side


def put(folder: Path, host: Path | None, router: Path, wanted: HostNetwork) -> None:
    """Say what guests of a network may read, and see to it that somebody answers."""
    guests = {
        str(port.address): {
            "instance-id": port.id,
            "local-hostname": port.name,
            "hostname": f"{port.name}.{wanted.zone}",
            "local-ipv4": str(port.address),
            "mac": port.mac,
            "port-id": port.id,
            "network-id": wanted.network,
            **port.metadata,
        }
        for port in wanted.ports
    }
    said = {
        "namespace": str(router),
        "network": wanted.network,
        "flow_log": wanted.flow_log,
        "guests": guests,
        "taps": {str(port.address): port.tap for port in wanted.ports},
    }
    file = folder / str(wanted.vni) / FILE
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    guest_files.write(file, orjson.dumps(said, option=orjson.OPT_SORT_KEYS))
    if running(folder) is None:
        _start(folder, host)


def drop(folder: Path, vni: int) -> None:
    """Answer in a network no longer."""
    shutil.rmtree(folder / str(vni), ignore_errors=True)


def _start(folder: Path, host: Path | None) -> None:
    stop(folder)  # one of before an upgrade, which listens where this one is to
    command = [sys.executable, "-m", "penstock.drivers.nftables.metadata", str(folder), _EDITION]
    process = inside(
        host,
        lambda: subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ),
    )
    (folder / _PID).write_text(str(process.pid))
    threading.Thread(target=process.wait, name="metadata-service", daemon=True).start()


def running(folder: Path) -> int | None:
    """Return the process that serves a folder with this very code, None if none does."""
    return _process(folder, _EDITION)


def stop(folder: Path) -> None:
    """End the process that serves a folder, whatever code it runs; nothing if there is none."""
    pid = _process(folder)
    if pid is not None:
        end(pid)


def _process(folder: Path, *edition: str) -> int | None:
    try:
        pid = int((folder / _PID).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None  # no file or no process: it is started anew
    return pid if {str(folder).encode(), *(one.encode() for one in edition)} <= set(words) else None


# -- the service


class Tokens:
    """Session tokens: of one guest, for some time, checked without being kept."""

    def __init__(self, key: bytes, now: Any = time.monotonic) -> None:
        self._key = key
        self._now = now

    def give(self, guest: str, seconds: int) -> str:
        """Return a token that this guest may show for so long."""
        until = str(int(self._now()) + seconds)
        return base64.urlsafe_b64encode(f"{until}.{self._sign(guest, until)}".encode()).decode()

    def holds(self, guest: str, token: str) -> bool:
        """Tell whether a token is this guest's and still good."""
        try:
            until, _, signature = base64.urlsafe_b64decode(token.encode()).decode().partition(".")
            fresh = int(until) > self._now()
        except ValueError:
            return False  # not one of ours, whatever it is
        return hmac.compare_digest(signature.encode(), self._sign(guest, until).encode()) and fresh

    def _sign(self, guest: str, until: str) -> str:
        return hmac.new(self._key, f"{guest} {until}".encode(), hashlib.sha256).hexdigest()


def look_up(guest: Mapping[str, Any], path: str) -> str | None:
    """Return what stands at a path below ``meta-data``; a list of names for a folder, None if there is nothing."""
    parts = [part for part in path.split("/") if part]
    if parts == ["public-keys"] and isinstance(guest.get("public-keys"), Mapping):
        # In this one list, names stand behind the numbers: that is how clients of the protocol know keys.
        return "\n".join(f"{number}=key-{number}" for number in guest["public-keys"])
    if parts[:2] == ["tags", "instance"] and len(parts) > 2:
        parts[2:] = ["/".join(parts[2:])]  # names of tags may have slashes in them
    tree: Any = guest
    for part in parts:
        if not isinstance(tree, Mapping) or part not in tree:
            return None
        tree = cast("Mapping[str, Any]", tree)[part]
    if isinstance(tree, Mapping):
        inner = cast("Mapping[str, Any]", tree)
        return "\n".join(f"{name}/" if isinstance(value, Mapping) else name for name, value in inner.items())
    return str(tree)


class _Handler(BaseHTTPRequestHandler):
    """Answers one guest."""

    server_version = "penstock"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    @property
    def _at(self) -> "_Server":
        return cast("_Server", self.server)

    def do_PUT(self) -> None:
        """Give a session token."""
        if self.path != "/latest/api/token" or self.headers.get("x-forwarded-for"):
            self._say(403 if self.path == "/latest/api/token" else 404, "")
            return
        try:
            seconds = int(self.headers.get(_ASK, ""))
        except ValueError:
            seconds = 0
        if not 1 <= seconds <= _TOKEN_SECONDS_MAX:
            self._say(400, f"say in {_ASK} for how many seconds, 1 to {_TOKEN_SECONDS_MAX}")
            return
        self._say(200, self._at.tokens.give(self.client_address[0], seconds), **{_ASK: str(seconds)})

    def do_GET(self) -> None:
        """Answer a question that shows a token."""
        address = self.client_address[0]
        guest = self._at.guest(address)
        if guest is None or not self._at.tokens.holds(address, self.headers.get(_SHOW, "")):
            self._say(401, "a session token is needed: PUT /latest/api/token first")
            return
        version, _, path = self.path.partition("?")[0].removeprefix("/").partition("/")
        found: str | bytes | None = None
        if not version:
            found = "\n".join(_VERSIONS)
        elif version in _VERSIONS:
            found = self._below(guest, address, path.strip("/"))
        self._say(404 if found is None else 200, found or "")

    def _below(self, guest: Mapping[str, Any], address: str, path: str) -> str | bytes | None:
        """Return what stands at a path below a version."""
        first, _, rest = path.partition("/")
        if path == "user-data":
            return self._at.user_data(address)
        if first == "meta-data":
            return look_up(guest, rest)
        if path:
            return None
        return "meta-data/" if self._at.user_data(address) is None else "meta-data/\nuser-data"

    def _say(self, status: int, said: str | bytes, **headers: str) -> None:
        body = said.encode() if isinstance(said, str) else said
        self.send_response(status)
        self.send_header(
            "Content-Type", "text/plain" if isinstance(said, str) else "application/octet-stream"
        )
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server calls
        """Keep no log: what guests ask is theirs."""


class _Server(ThreadingHTTPServer):
    """Listens in one network's namespace."""

    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, file: Path, tokens: Tokens) -> None:
        self.file = file
        self.tokens = tokens
        self._stamp = 0
        self._known: dict[str, Any] = {}
        namespace = self._read()["namespace"]
        self.path = Path(namespace)
        self.namespace = self.path.stat().st_ino
        super().__init__((METADATA_ADDRESS, 80), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = inside(Path(namespace), _listening)

    def _read(self) -> dict[str, Any]:
        stamp = self.file.stat().st_mtime_ns
        if stamp != self._stamp:
            self._known = orjson.loads(self.file.read_bytes())
            self._stamp = stamp
        return self._known

    def still_there(self) -> bool:
        """Tell whether the namespace that this listens in is still the network's."""
        namespace = Path(self._known["namespace"])
        return namespace.exists() and namespace.stat().st_ino == self.namespace

    def guest(self, address: str) -> dict[str, Any] | None:
        """Return what the guest with this address may read."""
        found: dict[str, Any] | None = self._read()["guests"].get(address)
        return found

    def user_data(self, address: str) -> bytes | None:
        """Return the user data of the guest with this address, byte for byte; None if it has none."""
        tap: str | None = self._read().get("taps", {}).get(address)
        return None if tap is None else guest_files.user_data(self.file.parent, tap)


def _listening() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
    opened.bind((METADATA_ADDRESS, 80))
    opened.listen(_BACKLOG)
    return opened


class FlowFile:
    """What one listener heard, a JSON object a line; the older half goes when there is too much."""

    def __init__(self, file: Path, listener: Listener) -> None:
        self._file = file
        self._listener = listener

    def take(self) -> None:
        """Write what was heard since."""
        now = time.time_ns() // 1_000
        lines = [orjson.dumps({"at_us": now, **asdict(flow)}) + b"\n" for flow in self._listener.read()]
        if not lines or not self._file.parent.exists():
            return
        if self._file.exists() and self._file.stat().st_size > FLOWS_BYTES_MAX:
            self._file.replace(self._file.with_suffix(".old"))
        with self._file.open("ab") as handle:
            handle.writelines(lines)

    def close(self) -> None:
        """Hear no more."""
        self._listener.close()


class Service:
    """Keeps a server and a log of flows for each network of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokens = Tokens(secrets.token_bytes(32))
        self._servers: dict[Path, _Server] = {}
        self._logs: dict[Path, FlowFile] = {}
        # What pretends to be somebody else is dropped in the host's own namespace, where this process is.
        self._spoofs = FlowFile(folder / FLOWS, Listener(None, GUARD_LOG_GROUP))

    def look(self) -> None:
        """Begin to serve what is new, end what is gone or whose namespace is another one now; write what was heard."""
        files = set(self._folder.glob(f"*/{FILE}"))
        for file, server in list(self._servers.items()):
            if file not in files or not server.still_there():
                server.shutdown()
                server.server_close()
                self._logs.pop(file.parent).close()
                del self._servers[file]
        for file in files - set(self._servers):
            try:
                server = _Server(file, self._tokens)
            except OSError:
                continue  # the namespace or its address is not there yet: looked at again soon
            threading.Thread(target=server.serve_forever, args=(0.5,), daemon=True).start()
            self._servers[file] = server
            self._logs[file.parent] = FlowFile(file.parent / FLOWS, Listener(server.path, RULES_LOG_GROUP))
        for log in (self._spoofs, *self._logs.values()):
            log.take()


def main() -> None:
    """Serve the folder named on the command line until told to stop or the folder is gone."""
    folder = Path(sys.argv[1])
    ended = threading.Event()

    def end(number: int, frame: object) -> None:
        del number, frame
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    service = Service(folder)
    while folder.exists() and not ended.wait(_LOOK_SECONDS):
        service.look()


if __name__ == "__main__":
    main()
