"""One process of a gateway: everything that hangs on its event loop, put together and served until told to stop."""

import asyncio
import gc
import os
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.gateway import log
from penstock.gateway.cached_secrets import opened
from penstock.gateway.control import Deliverer, Link, SnapshotPoller
from penstock.gateway.core import Core
from penstock.gateway.forwarding import Forwarding
from penstock.gateway.journal import Journal
from penstock.gateway.knowledge import Groundings
from penstock.gateway.limit_table import LimitTable
from penstock.gateway.metrics import Board
from penstock.gateway.server import Server
from penstock.gateway.settings import Settings
from penstock.gateway.signal import Reporter
from penstock.gateway.snapshot import Snapshot, SnapshotError, load_cache
from penstock.gateway.standalone import Config
from penstock.gateway.watch import Certificate, ConfigFile, engine_certificate


@dataclass(frozen=True, slots=True)
class Plan:
    """What all processes of a gateway have in common.

    ``control_plane`` is the address and the file with the token, None for a gateway that serves alone by
    ``config``; ``data`` is the folder of all processes, None for one that keeps nothing. ``engine_tls`` are the
    certificate that is shown to relays of engines, and the authority that is trusted there.
    """

    settings: Settings
    table: LimitTable
    name: str
    processes: int = 1
    config: Config | None = None
    config_path: Path | None = None
    control_plane: tuple[str, Path] | None = None
    token: str | None = None
    data: Path | None = None
    certificate: tuple[Path, Path] | None = None
    engine_tls: tuple[Path, Path] | None = None
    board: Board | None = None


def folder_of(data: Path, process: int, processes: int) -> Path:
    """Return the folder of one process."""
    return data if processes == 1 else data / f"process-{process}"


def journal_folder(plan: Plan, process: int) -> Path | None:
    """Return where one process keeps its journal; None if it keeps none."""
    if plan.data is None:
        return None
    folder = folder_of(plan.data, process, plan.processes)
    return folder if plan.control_plane is None else folder / "usage"


def _journal(folder: Path | None, settings: Settings) -> Journal | None:
    if folder is None:
        return None
    return Journal(folder, bytes_max=settings.journal_bytes_max, segment_bytes_max=settings.segment_bytes_max)


def _recover(core: Core) -> list[dict[str, object]]:
    """Read the journal; return the records of what a crash cut off, whose limits are not charged yet."""
    if core.journal is None:
        return []
    try:
        found = core.journal.open()
    except OSError as error:
        raise StartupError(f"The usage journal {core.journal.folder} cannot be used: {error}.") from error
    for which, tokens in found.tokens.items():
        core.directory.scope(*which).recorded(tokens)
    if found.records or found.unreadable:
        log.event(
            "journal_recovered", records=found.records, cut_off=found.cut_off, unreadable=found.unreadable
        )
    return found.ended


def _cached(path: Path, token: str) -> Snapshot | None:
    try:
        return load_cache(path, lambda raw: opened(raw, token))
    except (SnapshotError, OSError) as error:
        log.event("snapshot_cache_unusable", error=str(error))
        return None


def _threads(
    core: Core, link: tuple[str, Path], cache: Path | None, name: str
) -> tuple[SnapshotPoller, Deliverer, Reporter]:
    """Return the threads to the control plane; what they learn is applied on the loop."""

    def taken(snapshot: Snapshot) -> None:
        core.directory.apply(snapshot)
        core.newcomers.news()
        core.confirmed_at = core.loop.time()
        if core.demand is not None:
            core.demand()  # whoever takes a replica away waits for the word that it is asked no more

    def confirmed() -> None:
        core.confirmed_at = core.loop.time()

    def failed() -> None:
        core.metrics.snapshot_failures += 1

    def delivered(tokens: dict[tuple[str, str], int], records: int) -> None:
        core.metrics.records_delivered += records
        for which, count in tokens.items():
            core.directory.scope(*which).acknowledged(count)

    def refused() -> None:
        core.metrics.records_refused += 1

    soon = core.loop.call_soon_threadsafe
    poller = SnapshotPoller(
        Link(*link),
        cache,
        core.clock,
        taken=lambda snapshot: _ignore(soon(taken, snapshot)),
        confirmed=lambda: _ignore(soon(confirmed)),
        failed=lambda: _ignore(soon(failed)),
    )
    if core.journal is None:
        raise AssertionError("a gateway of a factory has a journal")
    deliverer = Deliverer(
        Link(*link),
        core.journal,
        name,
        delivered=lambda tokens, records: _ignore(soon(delivered, tokens, records)),
        refused=lambda: _ignore(soon(refused)),
    )
    return poller, deliverer, Reporter(Link(*link), name)


def _ignore(_handle: object) -> None:
    """Drop the handle of a scheduled call: it is never cancelled."""


async def serve(
    plan: Plan, process: int, listener: socket.socket, ready: Callable[[], None], *, parent: int = -1
) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` is called once connections are taken.

    ``parent`` is the reading end of a pipe that closes when the parent process is gone: then this one drains.
    Raises StartupError.
    """
    loop = asyncio.get_running_loop()
    watchers: list[Callable[[], None]] = []
    relay_tls: ssl.SSLContext | None = None
    if plan.engine_tls is not None:
        shown = engine_certificate(*plan.engine_tls)
        relay_tls = shown.context
        watchers.append(shown.check)
    core = Core(
        loop=loop,
        clock=SystemClock(),
        table=plan.table,
        settings=plan.settings,
        journal=_journal(journal_folder(plan, process), plan.settings),
        operator_token=plan.token,
        relay_tls=relay_tls,
    )
    ended = _recover(core)
    poller, deliverer, reporter = _source(plan, core, process, watchers)
    core.directory.charge(ended, core.instant())
    tls: ssl.SSLContext | None = None
    if plan.certificate is not None:
        certificate = Certificate(*plan.certificate)
        tls = certificate.context
        watchers.append(certificate.check)
    server = Server(
        core, listener, poller=poller, deliverer=deliverer, reporter=reporter, tls=tls, watchers=watchers
    )
    if plan.board is not None:
        server.share_metrics(plan.board, process)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    if parent >= 0:
        loop.add_reader(parent, _orphaned, loop, parent, server)
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    await server.run(ready)
    if core.groundings is not None:
        core.groundings.close()


def _orphaned(loop: asyncio.AbstractEventLoop, parent: int, server: Server) -> None:
    loop.remove_reader(parent)
    os.close(parent)
    log.event("parent_gone")
    server.stop()


def _source(
    plan: Plan, core: Core, process: int, watchers: list[Callable[[], None]]
) -> tuple[SnapshotPoller | None, Deliverer | None, Reporter | None]:
    """Fill the directory from the configuration or from the cached snapshot, and return who keeps it fresh."""
    if plan.config is not None:
        core.directory.apply(plan.config.snapshot)
        core.confirmed_at = core.loop.time()
        if plan.config_path is not None:
            watchers.append(ConfigFile(plan.config_path, core).check)
        return None, None, None
    if plan.control_plane is None or plan.data is None:
        raise AssertionError("a gateway has a configuration or a control plane")
    name = plan.name if plan.processes == 1 else f"{plan.name}-{process}"
    cache = plan.data / "snapshot.json"
    cached = _cached(cache, plan.token or "")
    if cached is not None:
        core.directory.apply(cached)
    core.newcomers.enabled = True
    core.groundings = Groundings(plan.control_plane, core.loop)
    core.forwarding = Forwarding(plan.control_plane[0], core)
    return _threads(core, plan.control_plane, cache if process == 0 else None, name)
