"""``penstock gateway``: read the arguments, put the process together, serve."""

import argparse
import asyncio
import fcntl
import gc
import os
import resource
import signal
import socket
import sys
from dataclasses import fields, replace
from pathlib import Path

import uvloop

from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.gateway import log
from penstock.gateway.control import Deliverer, Link, SnapshotPoller, read_token
from penstock.gateway.core import Core, instant_of
from penstock.gateway.journal import Journal
from penstock.gateway.limit_table import LimitTable
from penstock.gateway.server import Server, bind
from penstock.gateway.settings import Settings
from penstock.gateway.snapshot import Snapshot, SnapshotError, load_cache
from penstock.gateway.standalone import Config, read_config


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="penstock gateway", description="Serve models to clients of the OpenAI API."
    )
    parser.add_argument("--listen", help="host:port (default 127.0.0.1:7071, or the configuration's)")
    parser.add_argument("--control-plane", help="base URL of the control plane: serve as part of a factory")
    parser.add_argument(
        "--token-file", type=Path, help="file with this gateway's token for the control plane"
    )
    parser.add_argument("--data", type=Path, help="folder for the cached snapshot and the usage journal")
    parser.add_argument("--config", type=Path, help="TOML file: serve without a factory")
    parser.add_argument("--name", help="this gateway's name in usage deliveries (default host:port)")
    parser.add_argument("--pid-file", type=Path, help="file to write the process id to")
    arguments = parser.parse_args(argv)
    factory = (arguments.control_plane, arguments.token_file, arguments.data)
    if arguments.config is not None:
        if any(value is not None for value in factory):
            parser.error("--config serves alone; leave out --control-plane, --token-file and --data")
    elif any(value is None for value in factory):
        parser.error("give --control-plane, --token-file and --data, or --config")
    return arguments


def lock_folder(folder: Path) -> int:
    """Return a handle that keeps other gateways off ``folder`` while it is open; raises StartupError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(
            f"The data folder {folder} cannot be used ({error}); choose another --data."
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StartupError(
            f"Another gateway uses the data folder {folder}; give each its own --data."
        ) from error
    return handle


def _settings(config: Config | None) -> Settings:
    known = {field.name: field.type for field in fields(Settings)}
    values: dict[str, int | float] = {}
    for name, value in (config.settings if config is not None else {}).items():
        if name not in known:
            raise StartupError(f"settings.{name} is unknown; docs/reference/gateway.md lists them.")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - TOML may hold anything
            raise StartupError(f"settings.{name} must be a number that is not negative.")
        values[name] = value
    return replace(Settings(), **values)  # pyright: ignore[reportArgumentType] - the names are checked above


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
    for tenant, tokens in found.tokens_by_tenant.items():
        core.directory.scope("tenant", tenant).recorded(tokens)
    if found.records or found.unreadable:
        log.event(
            "journal_recovered", records=found.records, cut_off=found.cut_off, unreadable=found.unreadable
        )
    return found.ended


def _cached(path: Path) -> Snapshot | None:
    try:
        return load_cache(path)
    except (SnapshotError, OSError) as error:
        log.event("snapshot_cache_unusable", error=str(error))
        return None


def _threads(core: Core, link: tuple[str, Path], data: Path, name: str) -> tuple[SnapshotPoller, Deliverer]:
    """Return the threads to the control plane; what they learn is applied on the loop."""

    def taken(snapshot: Snapshot) -> None:
        core.directory.apply(snapshot)
        core.confirmed_at = core.loop.time()

    def confirmed() -> None:
        core.confirmed_at = core.loop.time()

    def failed() -> None:
        core.metrics.snapshot_failures += 1

    def delivered(tokens: dict[str, int], records: int) -> None:
        core.metrics.records_delivered += records
        for tenant, count in tokens.items():
            core.directory.scope("tenant", tenant).acknowledged(count)

    def refused() -> None:
        core.metrics.records_refused += 1

    soon = core.loop.call_soon_threadsafe
    poller = SnapshotPoller(
        Link(*link),
        data / "snapshot.json",
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
    return poller, deliverer


def _ignore(_handle: object) -> None:
    """Drop the handle of a scheduled call: it is never cancelled."""


async def _serve(arguments: argparse.Namespace, config: Config | None, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    settings = _settings(config)
    data: Path | None = arguments.data if config is None else config.ledger
    token = read_token(arguments.token_file) if config is None else None
    lock = lock_folder(data) if data is not None else -1
    folder = data / "usage" if data is not None and config is None else data
    clock = SystemClock()
    now = instant_of(clock)
    table = LimitTable.open(
        data / "limits.bin" if data is not None else None, settings.limit_rows_max, now.day, now.month
    )
    core = Core(
        loop=loop,
        clock=clock,
        table=table,
        settings=settings,
        journal=_journal(folder, settings),
        operator_token=token,
    )
    host, port = listener.getsockname()[:2]
    poller: SnapshotPoller | None = None
    deliverer: Deliverer | None = None
    if config is not None:
        ended = _recover(core)
        core.directory.apply(config.snapshot)
        core.directory.charge(ended, core.instant())
        core.confirmed_at = loop.time()
    else:
        name = arguments.name or f"{socket.gethostname()}:{port}"
        poller, deliverer = _threads(
            core, (arguments.control_plane, arguments.token_file), arguments.data, name
        )
        ended = _recover(core)
        cached = _cached(arguments.data / "snapshot.json")
        if cached is not None:
            core.directory.apply(cached)
            core.directory.charge(ended, core.instant())
    server = Server(core, listener, poller=poller, deliverer=deliverer)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    # What exists now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    sys.stdout.write(f"penstock gateway: listening on http://{host}:{port}\n")
    sys.stdout.flush()
    try:
        await server.run()
    finally:
        if lock >= 0:
            os.close(lock)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(argv: list[str]) -> int:
    """Run ``penstock gateway`` with ``argv`` (after the word gateway) until SIGTERM or SIGINT.

    Returns 0 after a clean stop, and 2 with one sentence on standard error if it cannot start.
    """
    try:
        arguments = _arguments(argv)
    except SystemExit as exit_:  # argparse has told why
        return exit_.code if isinstance(exit_.code, int) else 2
    pid_file: Path | None = arguments.pid_file
    try:
        config = read_config(arguments.config) if arguments.config is not None else None
        listen = arguments.listen or (config.listen if config is not None else "127.0.0.1:7071")
        with bind(listen) as listener:
            _raise_file_limit()
            if pid_file is not None:
                _write_pid(pid_file)
            uvloop.run(_serve(arguments, config, listener))
    except StartupError as error:
        sys.stderr.write(f"penstock gateway: {error.sentence}\n")
        return 2
    finally:
        if pid_file is not None and _is_ours(pid_file):
            pid_file.unlink(missing_ok=True)
    return 0


def _write_pid(path: Path) -> None:
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise StartupError(
            f"The pid file {path} cannot be written ({error}); choose another --pid-file."
        ) from error


def _is_ours(path: Path) -> bool:
    try:
        return path.read_text().strip() == str(os.getpid())
    except OSError:
        return False
