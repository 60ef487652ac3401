"""The link of an agent that lives in the control plane's own process: the same actions, without HTTP."""

from collections.abc import Mapping, Sequence

from penstock.actions import agent as agent_actions
from penstock.actions import console_session as session_actions
from penstock.actions import flow as flow_actions
from penstock.actions import host_check as check_actions
from penstock.actions import host_log as log_actions
from penstock.actions import reading as reading_actions
from penstock.actions import sleep as sleep_actions
from penstock.actions import vm_console as console_actions
from penstock.actions import weights as weights_actions
from penstock.actions.context import Context
from penstock.agent.link import Item, Pulled
from penstock.domain.host_log import LogLine
from penstock.domain.weights import Copy
from penstock.drivers.base import Check, Observed, Reading, Traffic, Typed


class InProcessLink:
    """Calls the actions that the HTTPS listener calls for remote agents."""

    def __init__(self, context: Context, agent_id: str) -> None:
        self._context = context
        self._agent_id = agent_id

    def pull(self, after: int, wait_seconds: float) -> Pulled:
        """Return wishes; see ``actions.agent.pull``."""
        pulled = agent_actions.pull(self._context, self._agent_id, after, wait_seconds)
        items = [
            Item(row["id"], row["node"], row["driver"], row["generation"], row["wanted"], row["config"])
            for row in pulled.allocations
        ]
        return Pulled(pulled.full, pulled.cursor, items, pulled.typing)

    def push(self, observations: Sequence[Observed], silent_nodes: Sequence[str]) -> None:
        """Report; see ``actions.agent.push``."""
        agent_actions.push(self._context, self._agent_id, observations, silent_nodes)

    def push_console(self, allocation_id: str, begin: int, content: bytes) -> int:
        """Send a piece of a console; see ``actions.vm_console.take``."""
        return console_actions.take(self._context, self._agent_id, allocation_id, begin, content)

    def pull_typed(self, taken: Mapping[str, int], wait_seconds: float) -> Sequence[Typed]:
        """Ask for keys; see ``actions.console_session.typed``."""
        return session_actions.typed(self._context, self._agent_id, taken, wait_seconds)

    def push_power(self, states: Mapping[str, str]) -> Mapping[str, bool]:
        """Say how nodes are powered; see ``actions.sleep.take``."""
        return sleep_actions.take(self._context, self._agent_id, states)

    def push_readings(self, readings: Sequence[Reading]) -> None:
        """Say what devices measure; see ``actions.reading.take``."""
        reading_actions.take(self._context, self._agent_id, readings)

    def push_traffic(self, said: Traffic) -> None:
        """Say what networks carried; see ``actions.flow.take``."""
        flow_actions.take(self._context, self._agent_id, said)

    def push_checks(self, checks: Sequence[Check], at_us: int) -> None:
        """Say how well this host is, and what its clock shows."""
        check_actions.take(self._context, self._agent_id, checks, at_us)

    def push_log(self, lines: Sequence[LogLine]) -> None:
        """Say what is new in this host's logs."""
        log_actions.take(self._context, self._agent_id, lines)

    def push_weights(self, copies: Sequence[Copy]) -> Sequence[str]:
        """Say what weights there are; see ``actions.weights.take``."""
        return weights_actions.take(self._context, self._agent_id, copies)
