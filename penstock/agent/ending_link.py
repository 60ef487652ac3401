"""A link that ends the agent when its factory does not accept it any more: trying again would never help."""

import threading
from collections.abc import Mapping, Sequence

from penstock.agent.link import Link, Pulled
from penstock.base.errors import UnauthenticatedError
from penstock.domain.host_log import LogLine
from penstock.domain.weights import Copy
from penstock.drivers.base import Check, Observed, Reading, Traffic, Typed


class EndingLink:
    """Sets ``stop`` at the first refusal; ``refusal`` is then the control plane's sentence, None before."""

    def __init__(self, link: Link, stop: threading.Event) -> None:
        self._link = link
        self._stop = stop
        self.refusal: str | None = None

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        """Pull."""
        try:
            return self._link.pull(after, wait_seconds)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def push(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        """Report."""
        try:
            self._link.push(observations, silent_nodes)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def push_console(self, allocation_id: str, begin: int, content: bytes) -> int:
        """Send a piece of a console."""
        try:
            return self._link.push_console(allocation_id, begin, content)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def pull_typed(self, taken: Mapping[str, int], wait_seconds: float) -> Sequence[Typed]:
        """Ask for keys."""
        try:
            return self._link.pull_typed(taken, wait_seconds)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def push_power(self, states: Mapping[str, str]) -> Mapping[str, bool]:
        """Say how nodes are powered."""
        try:
            return self._link.push_power(states)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def push_readings(self, readings: Sequence[Reading]) -> None:
        """Say what devices measure."""
        try:
            self._link.push_readings(readings)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def push_traffic(self, said: Traffic) -> None:
        """Say what networks carried."""
        try:
            self._link.push_traffic(said)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def push_checks(self, checks: Sequence[Check], at_us: int) -> None:
        """Say how well this host is, and what its clock shows."""
        try:
            self._link.push_checks(checks, at_us)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def push_log(self, lines: Sequence[LogLine]) -> None:
        """Say what is new in this host's logs."""
        try:
            self._link.push_log(lines)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def push_weights(self, copies: Sequence[Copy]) -> Sequence[str]:
        """Say what weights there are."""
        try:
            return self._link.push_weights(copies)
        except UnauthenticatedError as error:
            self._end(error)
            raise

    def _end(self, error: UnauthenticatedError) -> None:
        self.refusal = error.sentence
        self._stop.set()
