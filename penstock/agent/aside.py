"""Drivers whose calls take their time work aside: in a thread each, while the agent's loop goes on hearing and telling.

A thread lives while something of its driver is unsettled. One driver's calls never overlap, so its reports stay in the
order of what they are about.
"""

import threading
from collections.abc import Callable, Iterable

import structlog

log = structlog.get_logger(__name__)
AGAIN_SECONDS = 0.5
JOIN_SECONDS = 30.0


class Aside:
    """The threads. ``work`` drives what is due of a driver and returns how long to wait for more, None: nothing is left.

    Before it returns None it says ``ended``, under the lock that whoever calls ``begin`` holds: so nothing that begins in
    that moment is forgotten. Nothing works aside before ``start``.
    """

    def __init__(self, names: Iterable[str], work: Callable[[str], float | None]) -> None:
        self._names = frozenset(names)
        self._work = work
        self._threads: dict[str, threading.Thread] = {}
        self._more = {name: threading.Event() for name in self._names}
        self._on = threading.Event()

    def start(self) -> None:
        """Let drivers work aside from now on."""
        self._on.set()

    def stop(self) -> None:
        """Let them end what they are at."""
        self._on.clear()
        for event in self._more.values():
            event.set()
        for thread in list(self._threads.values()):
            thread.join(JOIN_SECONDS)

    def takes(self, name: str) -> bool:
        """Tell whether this driver works aside."""
        return self._on.is_set() and name in self._names

    def works(self, name: str) -> bool:
        """Tell whether this driver is at work, or waits for its next turn by itself."""
        return name in self._threads

    def begin(self, name: str) -> None:
        """Have a driver look at what is due; under the agent's lock."""
        self._more[name].set()
        if name not in self._threads:
            thread = threading.Thread(target=self._run, args=(name,), name=f"aside-{name}", daemon=True)
            self._threads[name] = thread
            thread.start()

    def ended(self, name: str) -> None:
        """Note that nothing of a driver is left to do; under the agent's lock."""
        self._threads.pop(name, None)

    def _run(self, name: str) -> None:
        more = self._more[name]
        while self._on.is_set():
            more.clear()  # before looking, so that what comes meanwhile is looked at as well
            try:
                wait = self._work(name)
            except Exception:
                log.exception("aside_failed", driver=name)
                wait = AGAIN_SECONDS
            if wait is None:
                return
            more.wait(wait)
