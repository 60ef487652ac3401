"""The two threads that talk to the control plane: one waits for snapshots, one delivers usage.

They are threads with blocking calls on purpose: nothing of them runs on the loop that serves tokens, and
when the control plane hangs, only they hang.
"""

import http.client
import threading
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from typing import cast
from urllib.parse import urlsplit

import orjson

from penstock.base import limits
from penstock.base.clock import Clock
from penstock.base.errors import StartupError
from penstock.gateway import log
from penstock.gateway.cached_secrets import sealed
from penstock.gateway.journal import Journal, read_segment
from penstock.gateway.records import add_tokens
from penstock.gateway.snapshot import Snapshot, SnapshotError, parse_snapshot, save_cache

WAIT_SECONDS = 20
_ANSWER_BYTES_MAX = 256 << 20
_FIRST_BACKOFF_SECONDS = 0.25
_LAST_BACKOFF_SECONDS = 10.0
_UNCHANGED_PAUSE_SECONDS = 0.2


class ControlPlaneError(Exception):
    """The control plane is away or answered something unusable."""


def read_token(path: Path) -> str:
    """Return the token in ``path``; raises StartupError with a sentence that says what to change."""
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"The token file {path} cannot be read ({error}); check --token-file.") from error
    if not token or not token.isprintable():
        raise StartupError(f"The token file {path} holds no token; check --token-file.")
    return token


class Link:
    """One keep-alive connection to the control plane, opened again after every failure."""

    def __init__(self, url: str, token_file: Path) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise StartupError(
                f"'{url}' is not the address of a control plane; give --control-plane http://host:port."
            )
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port
        self._prefix = parts.path.rstrip("/")
        self._token_file = token_file
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: bytes | None, timeout_seconds: float) -> tuple[int, bytes]:
        """Return status and body; raises ControlPlaneError. The token is read anew after each failure."""
        try:
            connection = self._connection or self._open(timeout_seconds)
            connection.request(method, self._prefix + path, body, self._headers)
            answer = connection.getresponse()
            raw = answer.read(_ANSWER_BYTES_MAX)
            if not answer.isclosed():  # there is more: drop it, what was read is not JSON and refused as such
                self.close()
            if answer.status in (401, 403):
                self.close()  # the token may have been replaced
        except (OSError, http.client.HTTPException, StartupError) as error:
            self.close()
            raise ControlPlaneError(f"{type(error).__name__}: {error}") from error
        return answer.status, raw

    def token(self) -> str:
        """Return the gateway's own token; raises StartupError."""
        return read_token(self._token_file)

    def _open(self, timeout_seconds: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        self._connection = kind(self._host, self._port, timeout=timeout_seconds)
        self._headers = {
            "authorization": f"Bearer {self.token()}",
            "content-type": "application/json",
        }
        return self._connection

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Backoff:
    """Doubling waits with full jitter, so that many gateways do not come back in step."""

    def __init__(self, random: Callable[[], float] | None = None) -> None:
        self._random = random or SystemRandom().random
        self._seconds = _FIRST_BACKOFF_SECONDS

    def reset(self) -> None:
        """Begin again with short waits."""
        self._seconds = _FIRST_BACKOFF_SECONDS

    def next(self) -> float:
        """Return the seconds to wait now."""
        seconds = self._seconds * (0.5 + self._random() / 2)
        self._seconds = min(self._seconds * 2, _LAST_BACKOFF_SECONDS)
        return seconds


class SnapshotPoller(threading.Thread):
    """Long-polls snapshots; ``taken`` and ``confirmed`` are called in this thread.

    The first question is always for version 0: a cached snapshot may be of the right version and still
    hold what was left of a quota a day ago.
    """

    def __init__(
        self,
        link: Link,
        cache: Path | None,
        clock: Clock,
        *,
        taken: Callable[[Snapshot], None],
        confirmed: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        super().__init__(name="snapshots", daemon=True)
        self._link = link
        self._cache = cache
        self._clock = clock
        self._taken = taken
        self._confirmed = confirmed
        self._failed = failed
        self.stopping = threading.Event()

    def run(self) -> None:
        """Ask until told to stop."""
        since = 0
        backoff = Backoff()
        away = False
        while not self.stopping.is_set():
            asked = self._clock.monotonic()
            try:
                version = self._ask(since)
            except (ControlPlaneError, SnapshotError) as error:
                if not away:
                    log.event("control_plane_away", error=str(error))
                away = True
                self._failed()
                self.stopping.wait(backoff.next())
                continue
            if away:
                log.event("control_plane_back")
            away = False
            backoff.reset()
            if version == since and self._clock.monotonic() - asked < _UNCHANGED_PAUSE_SECONDS:
                self.stopping.wait(_UNCHANGED_PAUSE_SECONDS)  # it does not hold long polls; do not spin
            since = version
        self._link.close()

    def _ask(self, since: int) -> int:
        path = f"/internal/gateway/snapshot?since={since}&wait_seconds={WAIT_SECONDS}"
        status, raw = self._link.call("GET", path, None, WAIT_SECONDS + 10)
        if status != 200:
            raise ControlPlaneError(f"the control plane answered {status} to the snapshot request")
        try:
            value: object = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ControlPlaneError("the snapshot is not JSON") from error
        document = cast("dict[str, object]", value) if isinstance(value, dict) else None
        if document is not None and "keys" not in document:
            self._confirmed()
            return since
        snapshot = parse_snapshot(document)
        try:
            if self._cache is not None:
                save_cache(self._cache, sealed(raw, self._link.token()))
        except (
            OSError,
            StartupError,
        ) as error:  # it serves all the same; only a restart without control plane would miss it
            log.event("snapshot_not_cached", error=str(error))
        self._taken(snapshot)
        log.event("snapshot", version=snapshot.version, keys=len(snapshot.keys), models=len(snapshot.models))
        return snapshot.version


class Deliverer(threading.Thread):
    """Delivers sealed segments in order; a segment is deleted once everything in it was acknowledged.

    Delivery may repeat after a failure: the control plane knows a record by its id. ``delivered`` is called
    in this thread with the tokens by scope and the number of records.
    """

    def __init__(
        self,
        link: Link,
        journal: Journal,
        name: str,
        *,
        delivered: Callable[[dict[tuple[str, str], int], int], None],
        refused: Callable[[], None],
    ) -> None:
        super().__init__(name="deliveries", daemon=True)
        self._link = link
        self._journal = journal
        self._gateway = name
        self._delivered = delivered
        self._refused = refused
        self.failing = False
        self.stopping = threading.Event()

    def run(self) -> None:
        """Deliver until told to stop."""
        backoff = Backoff()
        while not self.stopping.is_set():
            path = self._journal.oldest_sealed()
            if path is None:
                self.stopping.wait(0.1)
                continue
            try:
                self._deliver(path)
            except (ControlPlaneError, OSError) as error:
                if not self.failing:
                    log.event("usage_not_delivered", error=str(error))
                self.failing = True
                self.stopping.wait(backoff.next())
                continue
            self.failing = False
            backoff.reset()
        self._link.close()

    def _deliver(self, path: Path) -> None:
        tokens: dict[tuple[str, str], int] = {}
        batch: list[dict[str, object]] = []
        count = 0
        for record in read_segment(path):
            if record is None:
                log.event("journal_line_unreadable", segment=path.name)
                continue
            if record.get("progress"):
                continue
            add_tokens(tokens, record)
            count += 1
            batch.append(record)
            if len(batch) >= limits.USAGE_RECORDS_BATCH_MAX:
                self._send(batch)
                batch = []
        if batch:
            self._send(batch)
        self._journal.acknowledged(path)
        self._delivered(tokens, count)

    def _send(self, records: list[dict[str, object]]) -> None:
        """Deliver a batch; one that is refused as wrong is halved until the wrong record stands alone."""
        body = orjson.dumps({"gateway": self._gateway, "records": records})
        status, _ = self._link.call("POST", "/internal/gateway/usage", body, 30)
        if status == 200:
            return
        if status not in (400, 413, 422):
            raise ControlPlaneError(f"the control plane answered {status} to usage records")
        if len(records) > 1:
            middle = len(records) // 2
            self._send(records[:middle])
            self._send(records[middle:])
            return
        # Kept for a person: it must neither block the records behind it nor disappear.
        with (self._journal.folder / "refused.ndjson").open("ab") as file:
            file.write(orjson.dumps(records[0]) + b"\n")
        self._refused()
        log.event("usage_refused", record=str(records[0].get("id")), status=status)
