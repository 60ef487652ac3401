"""A machine goes to another node, disks and all: libvirt to libvirt, the tenant's connections stay.

A stopped one goes as a running one does, but held: QEMU has its disk open and no instruction of the guest ever runs.
Memory and disks go to the host that the other libvirtd's address names. libvirt alone would ask the other host what it
calls itself, and a name that nobody here knows, or that means another network, holds the guest until it is looked up.
"""

from collections.abc import Mapping
from typing import Any

from penstock.drivers.libvirt.hypervisor import Hypervisor
from penstock.drivers.libvirt.knock import host_of
from penstock.drivers.libvirt.machine import Move
from penstock.drivers.libvirt.volumes import local_targets


def move_away(hypervisor: Hypervisor, name: str, move: Move, folder: str, volumes: str) -> None:
    """Migrate the running or held domain ``name`` as ``move`` says; already gone is success.

    What of its disk lies over the same base image is copied, and all of the snapshots in its ``folder`` and of what is in the
    folder ``volumes``; the other side has made empty ones. Other volumes are on storage that both sides see. HypervisorError if libvirt cannot, and then
    the machine runs on where it was.
    """
    api = hypervisor.api
    with hypervisor.speaking() as connection:
        domain = hypervisor.domain(connection, name)
        if domain is None:
            return
        flags = (
            api.VIR_MIGRATE_LIVE
            | api.VIR_MIGRATE_PEER2PEER
            | api.VIR_MIGRATE_PERSIST_DEST
            | api.VIR_MIGRATE_UNDEFINE_SOURCE
            | api.VIR_MIGRATE_NON_SHARED_INC
            | api.VIR_MIGRATE_AUTO_CONVERGE
            | api.VIR_MIGRATE_ABORT_ON_ERROR
        )
        if not move.live:
            flags |= api.VIR_MIGRATE_PAUSED
        live = domain.XMLDesc(api.VIR_DOMAIN_XML_MIGRATABLE | api.VIR_DOMAIN_XML_SECURE)
        kept = domain.XMLDesc(
            api.VIR_DOMAIN_XML_MIGRATABLE | api.VIR_DOMAIN_XML_SECURE | api.VIR_DOMAIN_XML_INACTIVE
        )
        parameters: dict[str, object] = {
            api.VIR_MIGRATE_PARAM_DEST_NAME: move.name,
            api.VIR_MIGRATE_PARAM_DEST_XML: at_home(live, folder, volumes, move),
            api.VIR_MIGRATE_PARAM_PERSIST_XML: at_home(kept, folder, volumes, move),
        }
        parameters[api.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = ["vda", *local_targets(live, {folder, volumes})]
        host = host_of(move.uri)
        if host is not None:
            parameters[api.VIR_MIGRATE_PARAM_URI] = f"tcp://[{host}]" if ":" in host else f"tcp://{host}"
        domain.migrateToURI3(move.uri, parameters, flags)


def at_home(xml: str, folder: str, volumes: str, move: Move) -> str:
    """Return a domain's XML with the paths that its files have on the other node."""
    return xml.replace(f"'{folder}/", f"'{move.folder}/").replace(f"'{volumes}/", f"'{move.volumes}/")


def leaving(hypervisor: Hypervisor, domain: Any) -> dict[str, Any] | None:
    """Return libvirt's counters of a domain that is being migrated from here; None if it is not, or went. Within ``speaking``."""
    api = hypervisor.api
    try:
        job: dict[str, Any] = domain.jobStats()
    except api.libvirtError as error:
        if error.get_error_code() in (api.VIR_ERR_NO_DOMAIN, api.VIR_ERR_OPERATION_INVALID):
            return None
        raise
    going = job.get("operation") == api.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    return job if going and job["type"] != api.VIR_DOMAIN_JOB_NONE else None


def progress_of(job: Mapping[str, Any]) -> tuple[object, ...]:
    """Return those counters that change while something of a domain goes from here."""
    return tuple(job.get(name) for name in ("data_processed", "disk_processed", "memory_iteration"))
