"""What every queueing policy is: gangs arrive and end, and at each instant it says what starts and what stops."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing.cluster import Cluster, Gang, Part, Run

Estimate = Callable[[Gang], int]  # seconds of work


@dataclass(slots=True)
class Decisions:
    """What one look at the queue came to, in order: a node freed by a stop may be taken by a later start."""

    stopped: list[Run] = field(default_factory=list[Run])
    started: list[Run] = field(default_factory=list[Run])


class Policy(ABC):
    """A queue in front of ``cluster``, which it alone changes. Time is an argument and never goes back."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def check(self, gang: Gang) -> None:
        """Refuse with InvalidInputError what could never start, however long it waited."""
        if not 1 <= gang.gpus <= self.cluster.capacity:
            raise InvalidInputError(
                f"a gang of {gang.gpus} GPUs never fits the cluster, which has {self.cluster.capacity}; "
                "ask for fewer or use more nodes",
                field="num_gpus",
            )

    @abstractmethod
    def arrive(self, gang: Gang, now_s: int) -> None:
        """Take in a gang that waits from now on."""

    def end(self, job_id: int, now_s: int) -> Run:
        """Take note that a gang has ended; KeyError if it does not run."""
        del now_s
        return self.cluster.stop(job_id)

    @abstractmethod
    def decide(self, now_s: int) -> Decisions:
        """Start and stop what should be, in the cluster too, and say what that was."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many gangs wait."""

    @property
    def wake_s(self) -> int | None:
        """When the policy wants to be asked again though nothing arrives and nothing ends; None if not."""
        return None

    def _begin(self, gang: Gang, parts: tuple[Part, ...], now_s: int, expected_s: int) -> Run:
        run = Run(gang, now_s, expected_s, parts)
        self.cluster.start(run)
        return run
