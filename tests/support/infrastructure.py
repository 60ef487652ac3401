"""Rows that tests of infrastructure start from: agents with nodes, and services with something on a node."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from penstock.actions import agent as agent_actions
from penstock.actions import node as node_actions
from penstock.actions.context import Context
from penstock.actions.node import SiteFacts
from penstock.drivers.base import DeviceFacts, NodeFacts
from penstock.store.database import SYSTEM
from penstock.store.rows import Row, every

GIB = 1 << 30


def node_facts(
    name: str, *, devices: int = 4, model: str = "NVIDIA GB200", rack: str | None = "r1"
) -> NodeFacts:
    """Return a node with ``devices`` accelerators in one NVLink domain."""
    return NodeFacts(
        name=name,
        architecture="aarch64",
        cpu_model="Grace",
        cpu_cores=144,
        cpu_threads=144,
        memory_bytes=960 * GIB,
        numa=({"node": 0, "cpus": "0-71"}, {"node": 1, "cpus": "72-143"}),
        disks=({"name": "nvme0", "size_bytes": 3_840_000_000_000},),
        devices=[
            DeviceFacts(n, "GB200", model, "nvidia", 186 * GIB, serial=f"{name}-{n}", nvlink_domain=rack)
            for n in range(devices)
        ],
        rack=rack,
        leaf=f"leaf-{rack}",
        spine="spine-1",
        core="core-1",
        power_feed=f"feed-{rack}" if rack else None,
        notes=("made up by a test",),
    )


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An agent with its nodes by name."""

    agent_id: str
    nodes: dict[str, str]


def enroll(
    context: Context,
    names: Sequence[str] = ("n1", "n2"),
    *,
    agent: str = "sim",
    site: str = "sim",
    simulated: bool = True,
    devices: int = 4,
) -> Enrolled:
    """Enrol nodes under an in-process agent."""
    agent_id = agent_actions.ensure_in_process(context, agent)
    facts = [node_facts(name, devices=devices) for name in names]
    drivers = dict.fromkeys(names, ("simulated",))
    return Enrolled(
        agent_id, node_actions.enroll(context, agent_id, SiteFacts(site, simulated), facts, drivers)
    )


_SERVICE = (
    "INSERT INTO tenant (id, name, state, created_at) VALUES ('ten_1', 't', 'active', :at) ON CONFLICT DO NOTHING",
    (
        "INSERT INTO project (id, tenant_id, name, state, created_at) VALUES ('prj_1', 'ten_1', 'p', 'active', :at) "
        "ON CONFLICT DO NOTHING"
    ),
    (
        "INSERT INTO offer (id, name, kind, title, description, form, fixed, state, created_at) "
        "VALUES ('off_1', 'o', 'llm', 'o', 'o', '{}', '{}', 'active', :at) ON CONFLICT DO NOTHING"
    ),
    (
        "INSERT INTO price_book (id, version, note, created_by, created_at) VALUES ('pbk_1', 9999, 'n', 'test', :at) "
        "ON CONFLICT DO NOTHING"
    ),
    (
        "INSERT INTO service (id, tenant_id, project_id, offer_id, kind, name, spec, holds, ordered_by, price_book_id, "
        "wanted, state, request_sha256, ordered_at, queued_at) VALUES (:id, 'ten_1', 'prj_1', 'off_1', 'llm', :id, "
        "'{}', '{}', 'usr_1', 'pbk_1', 'running', :state, '', :at, :at)"
    ),
)


def add_service(context: Context, service_id: str, *, state: str = "starting") -> None:
    """Insert a service of tenant ``ten_1``, project ``prj_1``, that nothing is due for."""
    with context.db.transaction(SYSTEM) as connection:
        for statement in _SERVICE:
            connection.execute(
                sa.text(statement), {"id": service_id, "at": context.clock.now(), "state": state}
            )


def add_allocation(
    context: Context,
    service_id: str,
    node_id: str,
    agent_id: str,
    *,
    wanted: str = "present",
    generation: int = 1,
) -> str:
    """Insert something wanted of an agent; return its id."""
    allocation_id = context.new_id("allocation")
    with context.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO allocation (id, service_id, tenant_id, project_id, node_id, agent_id, driver, wanted, "
                "generation, config, phase) VALUES (:id, :service, 'ten_1', 'prj_1', :node, :agent, 'simulated', "
                ":wanted, :generation, '{\"a\": 1}', 'pending')"
            ),
            {
                "id": allocation_id,
                "service": service_id,
                "node": node_id,
                "agent": agent_id,
                "wanted": wanted,
                "generation": generation,
            },
        )
    return allocation_id


def query(context: Context, sql: str, **parameters: object) -> list[Row]:
    """Return rows of a read as the system."""
    with context.db.transaction(SYSTEM) as connection:
        return every(connection.execute(sa.text(sql), parameters))


def change(context: Context, sql: str, **parameters: object) -> None:
    """Run one statement as the system."""

    def work(connection: Connection) -> None:
        connection.execute(sa.text(sql), parameters)

    context.db.retrying(SYSTEM, work)
