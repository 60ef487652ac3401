"""What the benches of a whole factory share: starting one, its memory and CPU, waiting, and the lines they print."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg

from tests.flows.test_kill import socket_folder
from tests.support.factory_process import FactoryProcess
from tests.support.ports import free_port

ROOT = Path(__file__).parents[1]
PEER = "OpenNebula, measured before on this kind of machine, not in this run"
KEY_VARIABLE = "PENSTOCK_BENCH_KEY"
CALM_SECONDS = 2.0
LOAD_SECONDS = 600.0
END_SECONDS = 20.0
ERRORS_SHOWN = 5


def emit(bench: str, case: str, **figures: Any) -> None:
    """Print one line; every line says how busy the machine was."""
    record = {"bench": bench, "case": case, **figures, "load_1m": round(os.getloadavg()[0], 2)}
    print(json.dumps(record), flush=True)


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure that every run has, and ``runs``; what is no number is taken as it is."""
    merged: dict[str, Any] = {"runs": len(runs)}
    for name, first in runs[0].items():
        values = [run[name] for run in runs if name in run]
        if isinstance(first, bool) or not isinstance(first, int | float):
            merged[name] = first
        elif len(values) == len(runs):
            merged[name] = round(statistics.median(values), 4)
    return merged


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile by the nearest rank, in the unit of ``values``."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return the middle and the 99th percentile of times, in milliseconds."""
    return {
        "p50_ms": round(1_000 * percentile(seconds, 0.5), 2),
        "p99_ms": round(1_000 * percentile(seconds, 0.99), 2),
    }


def until(holds: Callable[[], bool], seconds: float, what: str, every: float = 0.1) -> None:
    """Ask every ``every`` seconds until ``holds``; SystemExit says ``what`` did not happen in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"within {seconds:.0f} s it did not happen that {what}")
        time.sleep(every)


def pause(seconds: float) -> None:
    """Let ``seconds`` pass: what is measured next is what happens by itself."""
    time.sleep(seconds)


@dataclass(slots=True)
class Use:
    """What the processes of one part of the factory use."""

    processes: int = 0
    rss_bytes: int = 0
    pss_bytes: int = 0
    cpu_s: float = 0.0


class Factory(FactoryProcess):
    """A factory in ``folder`` for a bench: a context that starts it and stops it, and says what its parts use."""

    def __init__(
        self, folder: Path, *, simulated: str, demo: bool = False, environment: dict[str, str] | None = None
    ) -> None:
        super().__init__(
            folder,
            simulated=simulated,
            port=free_port(),
            gateway_port=free_port(),
            environment=environment,
        )
        if demo:
            self._command.remove("--no-demo")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print("\n".join(self.errors_logged()), file=sys.stderr, flush=True)
        self.stop()

    def errors_logged(self) -> list[str]:
        """Return the last errors in its log, which goes with the folder when the bench fails."""
        log = self.data / "log" / "penstock.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return [line for line in lines if '"level": "error"' in line or '"level":"error"' in line][
            -ERRORS_SHOWN:
        ]

    def stop(self) -> None:
        """Stop it, and with it what it leaves to the next start, for there is none."""
        try:
            super().stop()
        finally:
            end_left(self.data)

    @property
    def port(self) -> int:
        """Return the port of the API."""
        return int(self.url.rpartition(":")[2])

    def database(self) -> psycopg.Connection[Any]:
        """Return a connection of its superuser to the embedded database."""
        return psycopg.connect(f"host={socket_folder(self)} user=postgres dbname=postgres", autocommit=True)

    def use(self) -> dict[str, Use]:
        """Return what each part uses now; CPU includes that of children which ended and were waited for."""
        found: dict[str, Use] = defaultdict(Use)
        for process in self.tree():
            try:
                part = found[self._part(process)]
                memory, times = process.memory_full_info(), process.cpu_times()
            except psutil.NoSuchProcess:
                continue  # it ended meanwhile; its parent has its CPU time
            part.processes += 1
            part.rss_bytes += memory.rss
            part.pss_bytes += memory.pss
            part.cpu_s += times.user + times.system + times.children_user + times.children_system
        return dict(found)

    def control_plane_rss_mb(self) -> float:
        """Return the resident memory of the process that is the control plane."""
        assert self.process is not None  # noqa: S101 - only called on a started factory
        return megabytes(psutil.Process(self.process.pid).memory_info().rss)

    def tree(self) -> list[psutil.Process]:
        """Return the processes of the factory; PostgreSQL is found by its pid file, whoever is its parent."""
        found = {process.pid: process for process in super().tree()}
        server = postmaster(self.data)
        if server is None:
            raise SystemExit("the database of the factory does not run")
        found |= {one.pid: one for one in (server, *server.children(recursive=True))}
        return list(found.values())

    def _part(self, process: psutil.Process) -> str:
        if self.process is not None and process.pid == self.process.pid:
            return "control plane"
        command = process.cmdline()
        if process.name().startswith("postgres"):
            return "PostgreSQL"
        return "gateway" if "gateway" in command else "engine"


def postmaster(data: Path) -> psutil.Process | None:
    """Return the PostgreSQL server of a data folder, None if it does not run."""
    file = data / "postgres" / "data" / "postmaster.pid"
    try:
        server = psutil.Process(int(file.read_text().splitlines()[0]))
        return server if server.name().startswith("postgres") else None
    except (OSError, psutil.NoSuchProcess):
        return None  # no such file or no such process: it was stopped


def end_left(data: Path) -> int:
    """End every process that still works on ``data``, and return how many there were.

    Engines outlive a clean stop on purpose, because the next start adopts them; a bench has no next start.
    """
    server = postmaster(data)
    found = [server] if server is not None else []
    for process in psutil.process_iter():
        try:
            if any(str(data) in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue  # gone meanwhile, or another person's
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself, which is what we want
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=END_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):  # likewise
            process.kill()
    return len(found)


def megabytes(count: float) -> float:
    """Return bytes as megabytes (1,000,000 bytes)."""
    return round(count / 1e6, 1)


def cpu_between(before: Mapping[str, Use], after: Mapping[str, Use]) -> dict[str, float]:
    """Return the CPU seconds each part used between two looks."""
    return {
        part: max(0.0, use.cpu_s - (before[part].cpu_s if part in before else 0.0))
        for part, use in after.items()
    }


def durability(factory: Factory) -> dict[str, str]:
    """Return the settings that make a commit durable; SystemExit if one is off, for then no figure counts."""
    found: dict[str, str] = {}
    with factory.database() as database:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            row = database.execute("SELECT setting FROM pg_settings WHERE name = %s", (name,)).fetchone()
            found[name] = str(row[0]) if row else "unknown"
        overridden = database.execute("SELECT setconfig FROM pg_db_role_setting").fetchall()
    if found["fsync"] != "on" or found["synchronous_commit"] != "on":
        raise SystemExit(f"commits are not durable: {found}")
    if any("synchronous_commit" in str(row) for row in overridden):
        raise SystemExit(f"a role or a database overrides durability: {overridden}")
    return found


def database_work(factory: Factory) -> tuple[int, int]:
    """Return the transactions committed and the syncs of the write-ahead log since the database was created."""
    with factory.database() as database:
        row = database.execute(
            "SELECT (SELECT sum(xact_commit) FROM pg_stat_database), "
            "(SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal')"
        ).fetchone()
    return (int(row[0] or 0), int(row[1] or 0)) if row else (0, 0)


def start_load(
    factory: Factory, key: str, mode: str, *arguments: str, feed: str = ""
) -> subprocess.Popen[str]:
    """Start the load client in a process of its own, which shares no interpreter with the server.

    ``feed`` is what it reads from its standard input.
    """
    command = [sys.executable, "-m", "bench.support_load", mode, "--port", str(factory.port), *arguments]
    environment = {**os.environ, KEY_VARIABLE: key}
    load = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    if load.stdin is not None:
        load.stdin.write(feed)
        load.stdin.close()
        load.stdin = None  # communicate() would write to it again
    return load


def finish_load(load: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what the load client found; SystemExit if it failed."""
    output, _ = load.communicate(timeout=LOAD_SECONDS)
    if load.returncode:
        raise SystemExit(f"the load client ended with status {load.returncode}")
    found: dict[str, Any] = json.loads(output)
    return found


def run_load(factory: Factory, key: str, mode: str, *arguments: str) -> dict[str, Any]:
    """Run the load client to its end."""
    return finish_load(start_load(factory, key, mode, *arguments))
