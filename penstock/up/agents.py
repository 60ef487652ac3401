"""The door for agents of other machines: a listener of its own beside the API, with the factory's authority.

Unlike the API it may listen beyond the loopback: who speaks there shows a certificate of this factory, or a
join token that an operator made a moment ago.
"""

from pathlib import Path

from penstock.api.agent_listener import AgentListener, serve_agents
from penstock.base.clock import Clock
from penstock.base.errors import StartupError
from penstock.control_plane import ControlPlane
from penstock.drivers.pki.authority import FactoryCa

AUTHORITY_FOLDER = "pki"
RELAY_FOLDER = "relay"


def open_authority(data: Path, clock: Clock) -> FactoryCa:
    """Return the authority of the data folder, made if there is none; StartupError if it cannot be used."""
    ca = FactoryCa(data / AUTHORITY_FOLDER, clock)
    ca.ensure()
    return ca


def gateway_files(ca: FactoryCa, data: Path) -> tuple[Path, Path]:
    """Return the files of the gateway's certificate and of the authority it trusts, renewed if that is due.

    Raises StartupError if the data folder cannot be written.
    """
    try:
        return ca.gateway_certificate(data / RELAY_FOLDER)
    except OSError as error:
        raise StartupError(
            f"the gateway's certificate in {data / RELAY_FOLDER} cannot be written: {error.strerror or error}"
        ) from error


def open_door(plane: ControlPlane, ca: FactoryCa, host: str, port: int) -> AgentListener:
    """Listen for agents on ``host``:``port`` (0: any free one); StartupError if the port is taken."""
    return serve_agents(plane, ca, host, port)
