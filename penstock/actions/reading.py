"""What devices measure, as agents report it: the last power and temperature of each."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy.engine import Connection

from penstock.actions.agent import require_agent
from penstock.actions.context import Context
from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.drivers.base import Reading
from penstock.store import reading as reading_store
from penstock.store.database import SYSTEM


def take(context: Context, agent_id: str, readings: Sequence[Reading]) -> int:
    """Keep what an agent says of its devices, in one statement that wakes nobody; return how many are known.

    Raises UnauthenticatedError if the agent was revoked, InvalidInputError on too many at once.
    """
    if len(readings) > limits.SENSORS_PER_REPORT_MAX:
        raise InvalidInputError(f"at most {limits.SENSORS_PER_REPORT_MAX} devices at once", field="readings")
    said = [asdict(one) for one in readings]

    def work(connection: Connection) -> int:
        require_agent(connection, agent_id)
        return reading_store.put(connection, agent_id, said, context.clock.now())

    return context.db.retrying(SYSTEM, work)
