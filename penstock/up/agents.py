"""The door for agents of other machines: a listener of its own beside the API, with the factory's authority.

Unlike the API it may listen beyond the loopback: who speaks there shows a certificate of this factory, or a
join token that an operator made a moment ago.
"""

from pathlib import Path

from penstock.api.agent_listener import AgentListener, serve_agents
from penstock.control_plane import ControlPlane
from penstock.drivers.pki.authority import FactoryCa

AUTHORITY_FOLDER = "pki"


def open_door(plane: ControlPlane, data: Path, host: str, port: int) -> AgentListener:
    """Listen for agents on ``host``:``port`` (0: any free one); the authority lives in the data folder.

    Raises StartupError if the port is taken, or if the authority that was there cannot be used.
    """
    return serve_agents(plane, FactoryCa(data / AUTHORITY_FOLDER, plane.clock), host, port)
