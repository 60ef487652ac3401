"""A machine is ended, or its move is not to go on, at any moment of a move: the newest bytes stay, and nothing else is left."""

import contextlib
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection

from penstock.base import limits
from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.engine import vm as vm_engine
from penstock.store.database import SYSTEM
from penstock.store.schema import allocation, vm
from tests.support.infrastructure import query
from tests.support.machine_objects import made, make_vm, make_volume
from tests.support.moving_host import SENDING, KilledError, MovingHost, World
from tests.support.tenancy import Caller, Tenant


class Site:
    """A machine with a volume that was written once, and another host for them."""

    def __init__(self, plane: ControlPlane, tenant: Tenant) -> None:
        self.plane, self.tenant, self.world = plane, tenant, World()
        self.hosts = [MovingHost(plane, self.world, "hv1")]
        self.vm_id = make_vm(plane, tenant, "db")
        self.volume_id = make_volume(tenant, "data")
        self.rest()
        made(tenant.member.put(f"/v1/volumes/{self.volume_id}/machine", vm_id=self.vm_id))
        self.rest()
        self.hosts.append(MovingHost(plane, self.world, "hv2"))
        self.world.volumes[("hv1", self.volume_id)] = 1

    def rest(self) -> None:
        """Let engine and hosts work until nothing changes any more."""
        for _ in range(6):
            for host in self.hosts:
                host.work()
            self.plane.volumes.tick()
            self.plane.vms.tick()

    def move(self, operator: Caller, step: str | None) -> None:
        """Begin to move the machine, and kill the old host's agent after a step of the sending."""
        made(operator.post(f"/v1/vms/{self.vm_id}/move"))
        if step is None:
            return
        self.hosts[0].kill_after = step
        self.hosts[1].work()
        with contextlib.suppress(KilledError):  # it was killed where it was to be
            self.hosts[0].work()
        assert self.hosts[0].kill_after is None, "it came as far"

    def end(self) -> None:
        made(self.tenant.member.delete(f"/v1/vms/{self.vm_id}"))

    def strays(self) -> list[object]:
        """Return what hosts have and the books do not, and the other way round; and a volume that is not its newest copy."""
        rows = query(
            self.plane.context,
            "SELECT a.id, a.driver, a.volume_id, n.name FROM allocation a JOIN node n ON n.id = a.node_id",
        )
        machines = {(row["name"], row["id"]) for row in rows if row["driver"] == "libvirt"}
        placed = {(row["name"], row["volume_id"]) for row in rows if row["driver"] == "qcow2"}
        at = {
            (row["name"], row["id"])
            for row in query(
                self.plane.context, "SELECT v.id, n.name FROM volume v JOIN node n ON n.id = v.node_id"
            )
        }
        found: list[object] = [
            *(machines ^ set(self.world.machines)),
            *(placed ^ set(self.world.volumes)),
            *(placed ^ at),
        ]
        held = "SELECT c.id FROM claim c JOIN service s ON s.id = c.service_id WHERE c.released_at IS NULL AND s.state = 'released'"
        return [*found, *query(self.plane.context, held)]

    def written(self) -> list[int]:
        return list(self.world.volumes.values())


@pytest.fixture
def site(control_plane: ControlPlane, acme: Tenant) -> Site:
    return Site(control_plane, acme)


@pytest.mark.parametrize(
    ("step", "control_plane_killed"),
    [(None, False), *((one, False) for one in SENDING), ("begun", True), ("arrived", True)],
)
def test_a_machine_that_is_ended_on_its_way_leaves_the_newest_bytes_and_nothing_else(
    site: Site,
    operator: Caller,
    monkeypatch: pytest.MonkeyPatch,
    step: str | None,
    *,
    control_plane_killed: bool,
) -> None:
    site.move(operator, step)
    if control_plane_killed:
        _killed_once(monkeypatch)
    site.end()
    for _ in range(2):
        with contextlib.suppress(_KilledEngineError):  # it was killed where it was to be
            site.rest()
    assert site.tenant.member.get(f"/v1/vms/{site.vm_id}").json()["state"] == "terminated"
    arrived = step in ("arrived", "noted", "reported")
    assert site.written() == [2 if arrived else 1]
    assert site.strays() == []
    volume = site.tenant.member.get(f"/v1/volumes/{site.volume_id}").json()
    assert (volume["state"], volume["vm_id"]) == ("available", None)
    made_again = site.tenant.member.delete(f"/v1/volumes/{site.volume_id}")
    assert made_again.status_code in (200, 202, 204)
    site.rest()
    assert (site.written(), site.strays()) == ([], [])
    assert query(site.plane.context, "SELECT 1 AS one FROM allocation") == []


class _KilledEngineError(Exception):
    """The control plane was killed before it committed."""


def _killed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the control plane once, when it has done the next thing about a move and not committed it."""
    step, killed = vm_engine.step, list[bool]()

    def dies(connection: Connection, service_id: str, now: datetime) -> object:
        done = step(connection, service_id, now)
        if done and not killed:
            killed.append(True)
            raise _KilledEngineError
        return done

    monkeypatch.setattr(vm_engine, "step", dies)


@pytest.mark.parametrize("step", ["arrived", "noted"])
def test_a_volume_is_not_deleted_while_it_is_open_where_it_is(
    site: Site, operator: Caller, step: str
) -> None:
    site.move(operator, step)
    site.end()
    path = f"/v1/volumes/{site.volume_id}"
    assert site.tenant.member.delete(path).status_code == 409, "its machine still has it"
    site.plane.services.tick()
    site.plane.vms.tick()
    # Until the old host has said where the machine is, neither copy is cleared, and nobody may begin anything with either.
    assert site.world.volumes.keys() == {("hv1", site.volume_id), ("hv2", site.volume_id)}
    for word in ("snapshots", "clone"):
        answer = site.tenant.member.post(f"{path}/{word}", name="x")
        assert answer.status_code == 409, answer.text
    site.rest()
    made_again = site.tenant.member.delete(path)
    assert made_again.status_code in (200, 202, 204), made_again.text
    site.rest()
    assert (site.written(), site.strays()) == ([], [])


@pytest.mark.parametrize("step", ["told", "begun", "arrived", "reported"])
def test_a_move_that_took_too_long_is_settled_where_the_machine_is(
    site: Site, operator: Caller, clock: ManualClock, step: str
) -> None:
    site.move(operator, step)
    clock.advance(limits.VM_MOVE_DEADLINE + timedelta(seconds=1))
    site.rest()
    vm = site.tenant.member.get(f"/v1/vms/{site.vm_id}").json()
    arrived = step in ("arrived", "noted", "reported")
    assert (vm["node_name"], vm["moving_to"]) == ("hv2" if arrived else "hv1", None)
    assert site.written() == [2 if arrived else 1]
    assert site.strays() == []


def test_a_move_may_take_as_long_as_something_of_it_goes(
    site: Site, operator: Caller, clock: ManualClock
) -> None:
    site.move(operator, "begun")

    def look(done_bytes: int, minutes: int) -> str:
        clock.advance(timedelta(minutes=minutes))
        copy = {"phase": "copying", "done_bytes": done_bytes, "total_bytes": 1 << 40}
        said = sa.func.coalesce(allocation.c.detail, sa.text("'{}'::jsonb")).concat(
            sa.cast({"copy": copy}, JSONB)
        )
        with site.plane.db.transaction(SYSTEM) as connection:
            sending = allocation.c.driver == "libvirt", allocation.c.service_id == site.vm_id
            connection.execute(sa.update(allocation).where(*sending).values(detail=said))
        site.plane.vms.tick()
        (row,) = query(site.plane.context, "SELECT move FROM vm")
        return str(row["move"]["state"])

    assert [look(number, 25) for number in range(1, 5)] == ["moving"] * 4
    assert (look(4, 25), look(4, 6)) == ("moving", "halting"), "nothing went for half an hour"


def test_a_move_that_never_ends_is_given_up_all_the_same(
    site: Site, operator: Caller, clock: ManualClock
) -> None:
    site.move(operator, "begun")
    clock.advance(limits.VM_MOVE_LONGEST + timedelta(seconds=1))
    went = {"went_at": clock.now().isoformat()}
    with site.plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.update(vm).values(move=vm.c.move.concat(sa.cast(went, JSONB))))
    site.plane.vms.tick()
    (row,) = query(site.plane.context, "SELECT move FROM vm")
    assert (row["move"]["state"], row["move"]["why"]) == ("halting", "it took too long")


@pytest.mark.parametrize("step", ["begun", "arrived"])
def test_a_drain_that_is_called_off_leaves_machines_whole(site: Site, operator: Caller, step: str) -> None:
    node = f"/v1/nodes/{site.hosts[0].node_id}"
    site.hosts[0].kill_after = step
    made(operator.post(f"{node}/drain"))
    site.hosts[1].work()
    with contextlib.suppress(KilledError):  # it was killed where it was to be
        site.hosts[0].work()
    made(operator.post(f"{node}/uncordon"))
    site.rest()
    vm = site.tenant.member.get(f"/v1/vms/{site.vm_id}").json()
    assert (vm["state"], vm["node_name"], vm["moving_to"]) == ("running", "hv2", None)
    assert (site.written(), site.strays()) == ([2], [])
