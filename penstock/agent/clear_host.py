"""`penstock agent clear-host`: takes away what an agent that is gone for good left on this host of networks and load balancers.

Agents leave alone what others made, so somebody must say that it is not wanted any more. That is said here, on the host,
and never while the agent that made it has the host.
"""

from importlib import import_module
from pathlib import Path

from penstock.base.clock import Clock
from penstock.base.errors import ConflictError, NotFoundError, UnavailableError
from penstock.drivers.nftables import host_lock


def clear(
    owner: str | None, clock: Clock, *, host: Path | None = None, folder: Path = host_lock.FOLDER
) -> list[str]:
    """Take away what ``owner`` made, or only say what is here of whom (None); return lines for a person.

    ``host`` is another network namespace than this process's, ``folder`` another one for locks. Raises UnavailableError
    where there is nothing to look with, ConflictError while ``owner`` has the host, NotFoundError if it made nothing here.
    """
    # Imported here: an agent that clears nothing away need not wait for them.
    nftables = import_module("penstock.drivers.nftables.driver")
    haproxy = import_module("penstock.drivers.haproxy.driver")
    why = nftables.unavailable()
    if why is not None:
        raise UnavailableError(why)
    holder = host_lock.holder(host, folder=folder)
    networks = nftables.NftablesNetworkDriver(clock, host=host)
    balancers = haproxy.HaproxyDriver(clock, host=host)
    if owner is None:
        who = "no agent has this host's networks now"
        if holder is not None:
            who = f"agent {holder.agent_id} ('{holder.name}' of {holder.factory}, process {holder.pid}) has this host's networks"
        return [who, *_listed("load balancers", balancers.owners()), *_listed("networks", networks.owners())]
    if holder is not None and holder.agent_id == owner:
        raise ConflictError(
            f"agent {owner} works on this host (process {holder.pid}): stop it first", field="owner"
        )
    done = {"load balancers": balancers.clear(owner), "networks": networks.clear(owner)}
    if not any(done.values()):
        raise NotFoundError(f"there is nothing of agent {owner} on this host", field="owner")
    return [f"{what} of {owner} taken away: {number}" for what, number in done.items() if number]


def _listed(what: str, found: dict[str, int]) -> list[str]:
    return [f"{what} of {owner}: {number}" for owner, number in sorted(found.items())]
