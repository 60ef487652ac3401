"""``penstock gateway``: read the arguments, put the process together, serve."""

import argparse
import fcntl
import gc
import os
import resource
import socket
import sys
from dataclasses import fields, replace
from pathlib import Path

import uvloop

from penstock.base.clock import SystemClock
from penstock.base.errors import StartupError
from penstock.gateway import log
from penstock.gateway.control import read_token
from penstock.gateway.core import instant_of
from penstock.gateway.limit_table import PROCESSES_MAX, LimitTable
from penstock.gateway.metrics import Board
from penstock.gateway.process import Plan, serve
from penstock.gateway.processes import Supervisor, adopt_journals
from penstock.gateway.server import bind
from penstock.gateway.settings import Settings
from penstock.gateway.standalone import Config, read_config


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
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
    parser.add_argument("--processes", type=int, help="processes that share the port (default 1)")
    parser.add_argument(
        "--tls-certificate", type=Path, help="PEM file with the certificate chain: serve HTTPS"
    )
    parser.add_argument("--tls-key", type=Path, help="PEM file with its key")
    parser.add_argument(
        "--engine-certificate",
        type=Path,
        help="PEM file with certificate and key to show to relays of engines",
    )
    parser.add_argument("--engine-authority", type=Path, help="PEM file with the authority to trust there")
    parser.add_argument("--pid-file", type=Path, help="file to write the process id to")
    return parser


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = build_parser()
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
        processes = _processes(arguments, config)
        with bind(listen, shared=processes > 1) as listener:
            _raise_file_limit()
            if pid_file is not None:
                _write_pid(pid_file)
            return _run(arguments, config, processes, listener)
    except StartupError as error:
        sys.stderr.write(f"penstock gateway: {error.sentence}\n")
        return 2
    finally:
        if pid_file is not None and _is_ours(pid_file):
            pid_file.unlink(missing_ok=True)


def _processes(arguments: argparse.Namespace, config: Config | None) -> int:
    asked: int | None = arguments.processes
    found = asked if asked is not None else config.processes if config is not None else 1
    if not 1 <= found <= PROCESSES_MAX:
        raise StartupError(f"The number of processes must be from 1 to {PROCESSES_MAX}, not {found}.")
    return found


def _run(
    arguments: argparse.Namespace, config: Config | None, processes: int, listener: socket.socket
) -> int:
    host, port = listener.getsockname()[:2]
    clock = SystemClock()
    data: Path | None = arguments.data if config is None else config.ledger
    lock = lock_folder(data) if data is not None else -1
    try:
        if data is not None:
            moved = adopt_journals(data, processes, sub="usage" if config is None else "")
            if moved:
                log.event("journals_adopted", segments=moved)
        plan = _plan(arguments, config, processes, data, f"{socket.gethostname()}:{port}", clock)

        def ready() -> None:
            scheme = "https" if plan.certificate is not None else "http"
            sys.stdout.write(f"penstock gateway: listening on {scheme}://{host}:{port}\n")
            sys.stdout.flush()

        if processes == 1:
            uvloop.run(serve(plan, 0, listener, ready))
            return 0
        gc.collect()
        gc.freeze()  # what the children share stays shared: the collector would write into it
        return Supervisor(plan, lambda: bind(f"{host}:{port}", shared=True, listening=True), clock).run(ready)
    except OSError as error:
        raise StartupError(f"The gateway cannot start ({error}); check its data folder.") from error
    finally:
        if lock >= 0:
            os.close(lock)


def _plan(
    arguments: argparse.Namespace,
    config: Config | None,
    processes: int,
    data: Path | None,
    name: str,
    clock: SystemClock,
) -> Plan:
    settings, now = _settings(config), instant_of(clock)
    table = data / "limits.bin" if data is not None else None
    pair: tuple[Path | None, Path | None] = (arguments.tls_certificate, arguments.tls_key)
    if config is not None and pair == (None, None):
        pair = config.certificate or pair
    certificate, key = pair
    if (certificate is None) != (key is None):
        raise StartupError("A certificate and its key belong together; give --tls-certificate and --tls-key.")
    relay: tuple[Path | None, Path | None] = (arguments.engine_certificate, arguments.engine_authority)
    if config is not None and relay == (None, None):
        relay = config.engine_tls or relay
    shown, authority = relay
    if (shown is None) != (authority is None):
        raise StartupError(
            "A certificate for engines and their authority belong together; give --engine-certificate and "
            "--engine-authority."
        )
    return Plan(
        settings=settings,
        table=LimitTable.open(table, settings.limit_rows_max, now.day, now.month),
        name=arguments.name or name,
        processes=processes,
        config=config,
        config_path=arguments.config,
        control_plane=None if config is not None else (arguments.control_plane, arguments.token_file),
        token=None if config is not None else read_token(arguments.token_file),
        data=data,
        certificate=None if certificate is None or key is None else (certificate, key),
        engine_tls=None if shown is None or authority is None else (shown, authority),
        board=Board(processes) if processes > 1 else None,
    )


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
