"""How a replica on another machine is named in TLS: ``<allocation>.<agent>.agents.penstock.internal``.

An id's underscore is a hyphen there, because host names know none. The names resolve nowhere: the gateway dials an
address and states the name, the agent's relay finds the replica by it, and the agent's certificate covers the names
below its own, so no agent can answer for the replicas of another, and none for the control plane.
"""

from penstock.base.ids import is_id

DOMAIN = "agents.penstock.internal"


def relay_name(allocation_id: str, agent_id: str) -> str:
    """Return the name that the gateway states to reach a replica through its agent."""
    return f"{_label(allocation_id)}.{_label(agent_id)}.{DOMAIN}"


def relay_wildcard(agent_id: str) -> str:
    """Return the name in an agent's certificate that covers all of its replicas."""
    return f"*.{_label(agent_id)}.{DOMAIN}"


def allocation_in(name: str, agent_id: str) -> str | None:
    """Return the allocation that ``name`` stands for at this agent; None if it is no such name."""
    label, _, rest = name.lower().partition(".")
    allocation_id = label.replace("-", "_", 1)
    if rest != f"{_label(agent_id)}.{DOMAIN}" or not is_id(allocation_id, "allocation"):
        return None
    return allocation_id


def _label(id_: str) -> str:
    return id_.replace("_", "-")
