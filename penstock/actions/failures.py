"""Wrong passwords of the last minute, counted per name and per address, so that guessing is slow.

Kept in the memory of each API process: with N replicas an attacker has at most N times the tries.
"""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable

from penstock.base import limits

WINDOW_SECONDS = 60.0
COUNTED_MAX = 20_000  # names and addresses remembered at once; the longest idle is forgotten first


class Failures:
    """Counts failures by key; thread-safe. ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, keys: Iterable[str], now: float) -> None:
        """Count one failure against each key."""
        with self._lock:
            for key in keys:
                times = self._times.setdefault(key, deque(maxlen=limits.LOGIN_FAILURES_PER_MINUTE_MAX))
                times.append(now)
                self._times.move_to_end(key)
            while len(self._times) > COUNTED_MAX:
                self._times.popitem(last=False)

    def seconds_until_free(self, keys: Iterable[str], now: float) -> int:
        """Return how long to wait before the next try, 0 if it may happen now."""
        wait = 0.0
        with self._lock:
            for key in keys:
                times = self._times.get(key)
                if times is not None and len(times) == limits.LOGIN_FAILURES_PER_MINUTE_MAX:
                    wait = max(wait, times[0] + WINDOW_SECONDS - now)
        return math.ceil(wait) if wait > 0 else 0
