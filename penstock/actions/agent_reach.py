"""Whether what an agent runs can be reached: what it may offer, and which addresses of replicas are believed.

The gateway dials what agents report. An agent of another machine is therefore believed an address at the host it
said at its enrolment, through its relay, and nothing else: neither the loopback of the gateway's machine nor any
other. Whoever answers at that host must then show this agent's certificate, so a wrong one leads nowhere.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from sqlalchemy.engine import Connection

from penstock.actions.context import Context
from penstock.base.errors import InvalidInputError
from penstock.catalog.replica import CTRANSLATE2, VLLM
from penstock.drivers.base import NodeFacts, Observed, Phase
from penstock.store import agent as agent_store
from penstock.store import event as event_store
from penstock.store.rows import Row

ENDPOINT_REFUSED = "endpoint_refused"
DEFAULT_HOST = "127.0.0.1"  # of agents that say none
_DRIVERS = frozenset({CTRANSLATE2, VLLM})  # those whose work is called by the gateway
_HOST_CHARACTERS_MAX = 253
NOT_REACHED = (
    "offers no LLM replicas: its agent comes from another machine ({source}) but answers at {host} only, where the "
    "gateway cannot reach it; start it with `penstock agent run --serve-at HOST`, an address of its machine"
)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where an agent enrols from, and where it says that its relay is reached (None: it has none)."""

    source_address: str
    serve_host: str | None

    @property
    def can_serve(self) -> bool:
        """Tell whether the gateway can reach what the agent runs; its machine is ours if it calls by loopback."""
        return is_loopback(self.source_address) or not is_loopback(self.serve_host or DEFAULT_HOST)


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` (an address or a name) means the machine it is used on."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


def note(context: Context, connection: Connection, agent: Row, reach: Reach) -> None:
    """Keep where an agent is reached; an event if that changed. InvalidInputError names a host that cannot be."""
    host = reach.serve_host
    if host is not None and not (
        0 < len(host) <= _HOST_CHARACTERS_MAX and host.isascii() and host.isprintable()
    ):
        raise InvalidInputError("a host name or address is needed", field="serve_host")
    if (agent["source_address"], agent["serve_host"]) == (reach.source_address, host):
        return
    agent_store.set_reach(connection, agent["id"], reach.source_address, host)
    event_store.emit(
        connection,
        at=context.clock.now(),
        kind="agent.reach_changed",
        subject_id=agent["id"],
        tenant_id=None,
        project_id=None,
        data={"name": agent["name"], "source_address": reach.source_address, "serve_host": host},
    )


def offered(
    reach: Reach, facts: Sequence[NodeFacts], drivers_by_node: Mapping[str, Sequence[str]]
) -> tuple[Sequence[NodeFacts], Mapping[str, Sequence[str]]]:
    """Return nodes and drivers without what the gateway could not reach there; the nodes' notes say so."""
    lacking = {name for name, drivers in drivers_by_node.items() if _DRIVERS.intersection(drivers)}
    if reach.can_serve or not lacking:
        return facts, drivers_by_node
    sentence = NOT_REACHED.format(source=reach.source_address, host=reach.serve_host or DEFAULT_HOST)
    return (
        [replace(node, notes=(*node.notes, sentence)) if node.name in lacking else node for node in facts],
        {name: [one for one in found if one not in _DRIVERS] for name, found in drivers_by_node.items()},
    )


def believed(agent: Row, observed: Observed) -> Observed:
    """Return the report, or a failure in its place if it names an address that is not its agent's to name."""
    if agent["transport"] != "https" or observed.endpoint is None or _may_name(agent, observed.endpoint):
        return observed
    return Observed(
        observed.allocation_id,
        observed.generation,
        Phase.FAILED,
        code=ENDPOINT_REFUSED,
        message=f"its agent reported the address {observed.endpoint[:200]}, which is not one it answers at: update the "
        "agent, and start it with --serve-at",
    )


def _may_name(agent: Row, endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or port == 0 or parts.path.strip("/") not in ("", "v1") or parts.query or parts.fragment:
        return False
    if parts.username is not None or not endpoint.isascii() or not endpoint.isprintable():
        return False
    if is_loopback(host):
        source = agent["source_address"]
        return parts.scheme in ("http", "https") and (source is None or is_loopback(source))
    return parts.scheme == "https" and host == (agent["serve_host"] or "").lower()
