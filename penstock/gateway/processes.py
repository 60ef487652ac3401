"""Several processes on one port: started together, started again when one dies, stopped together.

Each child listens by itself (SO_REUSEPORT: the kernel spreads connections), has a journal of its own and talks to
the control plane by itself; what they share is the table of limits and the board of metrics, both mapped before
the fork. A child drains when its parent is gone.
"""

import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import uvloop

from penstock.base.clock import Clock
from penstock.base.errors import StartupError
from penstock.gateway import log
from penstock.gateway.process import Plan, folder_of, serve

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 10.0
_HEALTHY_SECONDS = 10.0
_START_SECONDS = 60.0


def adopt_journals(data: Path, processes: int, *, sub: str) -> int:
    """Move the segments of processes that will not run into the first one's journal; return how many.

    That is what is left when the number of processes changed. ``sub`` is the journal's folder below a process's,
    empty for none. The order of segments of one process is kept, so that its progress lines still come before the
    records that replace them. Raises OSError.
    """
    wanted = [folder_of(data, k, processes) / sub for k in range(processes)]
    target = wanted[0]
    present = [data / sub, *sorted(path / sub for path in data.glob("process-*"))]
    moved = 0
    for folder in present:
        if folder in wanted or not folder.is_dir():
            continue
        for path in sorted(folder.glob("*.jsonl")):
            if path.stem.isdigit():
                target.mkdir(parents=True, exist_ok=True, mode=0o700)
                last = max((int(p.stem) for p in target.glob("*.jsonl") if p.stem.isdigit()), default=0)
                path.rename(target / f"{last + 1:012d}.jsonl")
                moved += 1
    return moved


class Supervisor:
    """The parent: it serves nothing itself."""

    def __init__(self, plan: Plan, listen: Callable[[], socket.socket], clock: Clock) -> None:
        self._plan = plan
        self._listen = listen
        self._clock = clock
        self._children: dict[int, tuple[int, float]] = {}  # pid: process number, when it began
        self._due: dict[int, float] = {}  # process number: when it is started again
        self._pauses = [_FIRST_PAUSE_SECONDS] * plan.processes
        self._ready, self._tell = os.pipe()
        self._held, self._parent = os.pipe()
        self._stopping = False
        self._failed = False

    def run(self, ready: Callable[[], None]) -> int:
        """Run the children until SIGTERM or SIGINT; return 0, or 2 if they could not start (one has said why)."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for process in range(self._plan.processes):
            self._start(process)
        waiting, until = self._plan.processes, self._clock.monotonic() + _START_SECONDS
        while self._children or (self._due and not self._stopping):
            if waiting:
                if select.select([self._ready], [], [], 0.02)[0]:
                    waiting -= len(os.read(self._ready, waiting))
                    if not waiting:
                        ready()
                elif self._clock.monotonic() > until:
                    self._stop()
            self._take_signal(0.0 if waiting else 0.5, starting=bool(waiting))
            if not self._stopping:
                self._start_due()
        return 2 if self._failed else 0

    def _take_signal(self, seconds: float, *, starting: bool) -> None:
        taken = signal.sigtimedwait(_SIGNALS, seconds)
        if taken is None:
            return
        if taken.si_signo == signal.SIGCHLD:
            self._reap(starting=starting)
        else:
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for pid in self._children:
            os.kill(pid, signal.SIGTERM)

    def _start_due(self) -> None:
        now = self._clock.monotonic()
        for process in [process for process, at in self._due.items() if at <= now]:
            del self._due[process]
            self._start(process)

    def _start(self, process: int) -> None:
        pid = os.fork()
        if pid == 0:
            self._child(process)
        self._children[pid] = process, self._clock.monotonic()

    def _child(self, process: int) -> None:
        """Serve; never returns."""
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.close(self._parent)
            self._plan.table.share(process)
            with self._listen() as listener:
                uvloop.run(
                    serve(
                        self._plan,
                        process,
                        listener,
                        lambda: _ignore(os.write(self._tell, b"1")),
                        parent=self._held,
                    )
                )
            status = 0
        except StartupError as error:
            sys.stderr.write(f"penstock gateway: {error.sentence}\n")
            status = 2
        except BaseException:  # noqa: BLE001 - a forked child must not run on into its parent's code
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _reap(self, *, starting: bool) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            process, began = self._children.pop(pid, (-1, 0.0))
            if process < 0 or self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if starting and code == 2:  # it has said why it cannot start, and would say it for ever
                self._failed = True
                self._stop()
                continue
            lived = self._clock.monotonic() - began
            pause = _FIRST_PAUSE_SECONDS if lived > _HEALTHY_SECONDS else self._pauses[process]
            self._pauses[process] = min(pause * 2, _LAST_PAUSE_SECONDS)
            self._due[process] = self._clock.monotonic() + pause
            log.event("process_died", process=process, code=code, again_in_seconds=pause)


def _ignore(_written: int) -> None:
    """Drop what a write returned."""
