"""What the agents that carry one thing are told in one step: a network, a load balancer, a partition of the fabric.

Level-triggered: what is wanted of each allocation is compared with what was told and with what came of it; the answer is
at most one change of it and when to look again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from penstock.store import allocation as allocation_store
from penstock.store.rows import Row


@dataclass(frozen=True, slots=True)
class Waits:
    """How long until the next look: for an answer, for one from a node that does not answer, after a failure."""

    answer: timedelta
    lost: timedelta
    failed: timedelta


class Told:
    """One step; ``count`` hears each change as ``new``, ``changed``, ``again``, ``ending`` or ``gone``.

    ``left`` counts the allocations that are there after the step, ``look_again`` is how long until the next one. What is
    told has the ``number`` that is given or a higher one, if the agent has that already; ``number`` is the highest then.
    """

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        waits: Waits,
        count: Callable[[str], None],
        *,
        number: int = 1,
    ) -> None:
        self._connection = connection
        self._now = now
        self._waits = waits
        self._count = count
        self.number = number
        self.changed = False
        self.left = 0
        self.look_again: timedelta | None = None

    def new(self, carried: Mapping[str, Any], driver: str, host: Row, config: Mapping[str, Any]) -> None:
        """Tell an agent for the first time; ``carried`` as ``store.allocation.carry`` takes it."""
        allocation_store.carry(self._connection, carried, driver, host, config, self._now, self.number)
        self.left += 1
        self._did("new")

    def existing(self, row: Row, config: Mapping[str, Any] | None) -> None:
        """Tell an agent what changed, or with None that it is to go."""
        self.left += 1
        if config is None:
            self._end(row)
        elif row["wanted"] != "present" or row["config"] != config:
            self._change(row, "present", config, "changed")
        elif row["phase_generation"] != row["generation"]:
            self.soon(self._waits.answer)  # its agent has not said yet what became of it
        elif row["phase"] == "failed":
            # What a person has to mend there is tried again by itself once that may have been done.
            if row["observed_at"] is not None and self._now - row["observed_at"] >= self._waits.failed:
                self._change(row, "present", config, "again")
            self.soon(self._waits.failed)
        elif row["phase"] != "ready":
            self.soon(self._waits.answer)

    def again(self, row: Row) -> None:
        """Have an agent make it so once more, because somebody changed it there."""
        self.left += 1
        self._change(row, "present", row["config"], "again")

    def soon(self, wait: timedelta) -> None:
        """Look again after ``wait`` at the latest."""
        self.look_again = wait if self.look_again is None else min(self.look_again, wait)

    def _end(self, row: Row) -> None:
        gone = (
            row["wanted"] == "absent"
            and row["phase"] == "absent"
            and row["phase_generation"] == row["generation"]
        )
        if gone or row["node_state"] == "retired":
            allocation_store.drop(self._connection, row["id"])
            self.left -= 1
            self._did("gone", look=False)
            return
        if row["wanted"] != "absent":
            self._change(row, "absent", row["config"], "ending")
        self.soon(self._waits.answer if row["node_state"] == "ready" else self._waits.lost)

    def _change(self, row: Row, wanted: str, config: Mapping[str, Any], kind: str) -> None:
        number = allocation_store.change(self._connection, row["id"], wanted, config, self.number)
        self.number = max(self.number, number)
        self._did(kind)

    def _did(self, kind: str, *, look: bool = True) -> None:
        self._count(kind)
        self.changed = True
        if look:
            self.soon(self._waits.answer)
