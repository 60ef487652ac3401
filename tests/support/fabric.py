"""A simulated factory with a fabric manager, turned by hand, and what must hold of it at every moment."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.domain.fabric_partition import FULL_MEMBER
from penstock.drivers.base import Observed, Phase, Wanted
from penstock.drivers.simulated_fabric.driver import SimulatedFabricDriver
from tests.support.infrastructure import query
from tests.support.simulated_factory import SimulatedFactory
from tests.support.tenancy import Tenant


class Manager(SimulatedFabricDriver):
    """The imagined fabric manager, which can refuse, be out of reach, and be changed behind our back."""

    trouble: str | None = None

    def ensure(self, wanted: Wanted) -> Observed:
        """Keep the partition, unless it is told to fail."""
        if self.trouble is not None:
            return Observed(
                wanted.allocation_id, wanted.generation, Phase.FAILED, code="no_manager", message=self.trouble
            )
        return super().ensure(wanted)

    def partitions(self) -> dict[int, set[str]]:
        """Return the names of the members by key, as switches would have them."""
        return {facts["pkey"]: set(facts["members"]) for facts in self._read().values()}

    def tamper(self, pkey: int, members: Iterable[str]) -> None:
        """Change a partition as somebody at the manager's own console would."""
        for allocation_id, facts in self._read().items():
            if facts["pkey"] == pkey:
                changed = {**facts, "members": sorted(members)}
                (self._folder / f"{allocation_id}.json").write_bytes(orjson.dumps(changed))

    def lose_everything(self) -> None:
        """Forget every partition, as a manager that was set up anew."""
        for allocation_id in list(self._read()):
            self.remove(allocation_id)


@dataclass
class FabricFactory:
    """Nodes with two devices each and one fabric manager."""

    plane: ControlPlane
    clock: ManualClock
    folder: Path
    shape: str = "4x2:H100"
    manager: Manager = field(init=False)
    factory: SimulatedFactory = field(init=False)

    def __post_init__(self) -> None:
        self.manager = Manager(self.folder / "fabric", self.clock)
        self.factory = SimulatedFactory(self.plane, self.folder, self.shape, [self.manager])

    def order(self, tenant: Tenant, count: int, fabric: str | None = None, name: str | None = None) -> str:
        """Order devices and return the id."""
        spec = {"count": count, "device_class": "H100", **({} if fabric is None else {"fabric": fabric})}
        body: dict[str, Any] = {"offer": "gpu", "project": tenant.project_id, "spec": spec}
        answer = tenant.member.post("/v1/services", **body, **({} if name is None else {"name": name}))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def engine(self) -> None:
        """Let the engine do what it can without anybody answering."""
        while self.plane.services.tick():
            pass
        self.plane.fabric.tick()
        self.plane.nodes.tick()

    def turn(self, rounds: int = 6, seconds: float = 3.0) -> None:
        """Let time pass, and everybody act; what must always hold is looked at after each act."""
        for _ in range(rounds):
            self.clock.advance(timedelta(seconds=seconds))
            self.engine()
            self.check()
            self.factory.agent.step(0.0)
            self.check()

    def state(self, service_id: str) -> tuple[str, str]:
        """Return a service's state and message."""
        (row,) = query(self.plane.context, "SELECT state, message FROM service WHERE id = :id", id=service_id)
        return row["state"], row["message"]

    def nodes_of(self, service_id: str) -> set[str]:
        """Return the names of the nodes that a service holds something of."""
        sql = "SELECT DISTINCT n.name FROM claim c JOIN node n ON n.id = c.node_id WHERE c.service_id = :id AND c.released_at IS NULL"
        return {row["name"] for row in query(self.plane.context, sql, id=service_id)}

    def members(self, name: str) -> dict[str, str]:
        """Return the states of a partition's nodes as the database has them, by the names of the nodes."""
        sql = (
            "SELECT n.name, m.state FROM fabric_member m JOIN node n ON n.id = m.node_id "
            "JOIN fabric_partition p ON p.id = m.partition_id WHERE p.name = :name"
        )
        return {row["name"]: row["state"] for row in query(self.plane.context, sql, name=name)}

    def partition(self, name: str) -> Any:
        """Return a partition's row, None if there is none."""
        rows = query(self.plane.context, "SELECT * FROM fabric_partition WHERE name = :name", name=name)
        return rows[0] if rows else None

    def _rows(self, sql: str, **values: str) -> list[Any]:
        return query(self.plane.context, sql, **values)

    def check(self) -> None:
        """Nobody is on a node in the partition of another project, and nothing runs that waits for its partition."""
        owner = {
            row["pkey"]: row["project_id"]
            for row in self._rows("SELECT pkey, project_id FROM fabric_partition")
        }
        held: dict[str, set[str]] = {}
        for row in self._rows(
            "SELECT DISTINCT n.name, c.project_id FROM claim c JOIN node n ON n.id = c.node_id "
            "WHERE c.released_at IS NULL AND c.service_id IS NOT NULL"
        ):
            held.setdefault(row["name"], set()).add(row["project_id"])
        managed = self.manager.partitions()
        for pkey, names in managed.items():
            assert pkey in owner, f"{pkey | FULL_MEMBER:#06x} is in the manager and in no row"
            for name in names - self.tampered:
                assert held.get(name, set()) <= {owner[pkey]}, f"{name} is in the partition of a stranger"
        told = self._rows(
            "SELECT n.name, p.pkey FROM allocation a JOIN service s ON s.id = a.service_id "
            "JOIN node n ON n.id = a.node_id JOIN fabric_partition p ON p.project_id = s.project_id "
            "AND p.name = s.spec ->> 'fabric' WHERE NOT a.isolating AND a.wanted = 'present' AND a.phase = 'pending'"
        )
        for row in told:
            if not self.tampered:
                assert row["name"] in managed.get(row["pkey"], set()), f"{row['name']} was told too early"

    tampered: frozenset[str] = frozenset()

    def leaks(self) -> list[str]:
        """Say where the manager and the database differ, or a node is somewhere where its project holds nothing."""
        found: list[str] = []
        rows = self._rows("SELECT id, pkey, project_id FROM fabric_partition")
        managed = self.manager.partitions()
        for row in rows:
            members = {
                one["name"]
                for one in self._rows(
                    "SELECT n.name FROM fabric_member m JOIN node n ON n.id = m.node_id "
                    "WHERE m.partition_id = :id AND m.state = 'member'",
                    id=row["id"],
                )
            }
            holds = {
                one["name"]
                for one in self._rows(
                    "SELECT DISTINCT n.name FROM claim c JOIN node n ON n.id = c.node_id WHERE c.released_at IS NULL "
                    "AND c.service_id IS NOT NULL AND c.project_id = :project_id",
                    project_id=row["project_id"],
                )
            }
            has = managed.pop(row["pkey"], set())
            found += [f"{row['pkey']}: {name} differs" for name in has ^ members]
            found += [f"{row['pkey']}: {name} is in it for nothing" for name in has - holds]
        found += [f"{pkey}: only the manager has it" for pkey in managed]
        kept = self._rows(
            "SELECT n.name FROM node n WHERE kept_for IS NOT NULL AND NOT EXISTS (SELECT FROM claim c "
            "WHERE c.node_id = n.id AND c.released_at IS NULL AND c.project_id = n.kept_for)"
        )
        found += [f"{row['name']} is kept for nobody" for row in kept]
        stray = self._rows(
            "SELECT id FROM allocation WHERE fabric_partition_id IS NOT NULL "
            "AND fabric_partition_id NOT IN (SELECT id FROM fabric_partition)"
        )
        return found + [f"{row['id']} carries what is not there" for row in stray]
