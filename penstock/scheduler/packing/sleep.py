"""Sleep: which idle nodes may be powered down, and when one that was woken can be used.

A node is proposed for power-down once it has been idle long enough and has been up long enough, and while
enough idle nodes of its kind stay ready. Waking takes time, and no claim starts before it is over. Time is an
argument, in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.base.errors import ConflictError
from penstock.domain.sleep import PowerState

NodePower = PowerState


@dataclass(frozen=True, slots=True)
class SleepRules:
    """When nodes may sleep: idle and up for so long, with so many ready ones of each kind kept; and how long waking takes."""

    idle_s: float = 600.0
    up_s: float = 1_800.0
    wake_s: float = 180.0
    ready_per_kind: int = 1


@dataclass(frozen=True, slots=True)
class Rest:
    """How a node stands: since when it is idle (None: it is not), since when it can be used, whether it is off."""

    kind: str
    idle_since_s: float | None
    ready_at_s: float
    off: bool = False


class Sleep:
    """The power states of nodes; ``kinds`` names the kind of each. All are on and idle at the start."""

    @classmethod
    def resume(cls, nodes: Sequence[Rest], rules: SleepRules) -> "Sleep":
        """Return the states of nodes that stand so."""
        made = cls([one.kind for one in nodes], rules, 0.0)
        made._ready_at = [one.ready_at_s for one in nodes]
        made._off = {number for number, one in enumerate(nodes) if one.off}
        made._idle_since = {
            number: one.idle_since_s
            for number, one in enumerate(nodes)
            if one.idle_since_s is not None and not one.off
        }
        return made

    def __init__(self, kinds: list[str], rules: SleepRules, now_s: float) -> None:
        self._kinds = kinds
        self._rules = rules
        self._off: set[int] = set()
        self._ready_at = [now_s] * len(kinds)
        self._idle_since: dict[int, float] = dict.fromkeys(range(len(kinds)), now_s)

    def state(self, node: int, now_s: float) -> NodePower:
        """Return the power state of ``node``."""
        if node in self._off:
            return NodePower.OFF
        return NodePower.ON if now_s >= self._ready_at[node] else NodePower.WAKING

    def use(self, node: int, now_s: float) -> float:
        """Wake ``node`` if it is off; return when a claim on it can start, never before it is awake."""
        if node in self._off:
            self._off.discard(node)
            self._ready_at[node] = now_s + self._rules.wake_s
        self._idle_since.pop(node, None)
        return max(now_s, self._ready_at[node])

    def idle(self, node: int, now_s: float) -> None:
        """Record that nothing runs on ``node`` any more."""
        if node not in self._off:
            self._idle_since.setdefault(node, now_s)

    def proposals(self, now_s: float) -> list[int]:
        """Return the nodes that may be powered down now, the longest idle first."""
        ready: dict[str, int] = {}
        for node in self._idle_since:
            if self.state(node, now_s) is NodePower.ON:
                ready[self._kinds[node]] = ready.get(self._kinds[node], 0) + 1
        found: list[int] = []
        for node, since_s in sorted(self._idle_since.items(), key=lambda one: (one[1], one[0])):
            kind = self._kinds[node]
            rested = now_s - since_s >= self._rules.idle_s
            up = now_s - self._ready_at[node] >= self._rules.up_s
            if rested and up and ready.get(kind, 0) > self._rules.ready_per_kind:
                ready[kind] -= 1
                found.append(node)
        return found

    def power_down(self, node: int, now_s: float) -> None:
        """Turn ``node`` off; raises ConflictError unless it is among the proposals now."""
        if node not in self.proposals(now_s):
            raise ConflictError(f"node {node} may not be powered down now; ask for the proposals again")
        self._off.add(node)
        self._idle_since.pop(node, None)
