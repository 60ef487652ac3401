"""Certificates with their keys for an agent that lives in the control plane's own process."""

from penstock.actions import certificate as certificate_actions
from penstock.actions.context import Context


class InProcessCertificates:
    """Asks the action that the HTTPS listener asks for remote agents."""

    def __init__(self, context: Context, agent_id: str) -> None:
        self._context = context
        self._agent_id = agent_id

    def content(self, certificate_id: str) -> bytes:
        """Return chain and private key as one PEM; NotFoundError unless this agent was told to listen with them."""
        return certificate_actions.content_for_agent(self._context, self._agent_id, certificate_id).encode()
