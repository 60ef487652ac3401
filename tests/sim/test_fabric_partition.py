"""Random orders, ends, failures and kills never leave a node in the partition of who holds nothing on it."""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.base.clock import ManualClock
from penstock.control_plane import ControlPlane
from penstock.engine.fabric_partition import FabricPartitionEngine
from penstock.store import fabric_member as member_store
from tests.support.fabric import FabricFactory
from tests.support.infrastructure import query
from tests.support.tenancy import Tenant

WRITES = ("put", "keep", "note", "let_go", "forget")


class Killed(BaseException):
    """What ends a process in the middle of a step."""


class Chaos:
    """Two tenants, and whatever happens to them."""

    def __init__(self, fabric: FabricFactory, tenants: tuple[Tenant, Tenant], seed: int) -> None:
        self.fabric = fabric
        self.tenants = tenants
        self.chance = random.Random(seed)  # noqa: S311 - chance of a test
        self.live: dict[str, Tenant] = {}
        self.nodes = sorted(fabric.factory.nodes)

    def order(self) -> None:
        """Order one to four devices, in a partition or in none."""
        tenant = self.chance.choice(self.tenants)
        named = self.chance.choice((None, "one", "two", "two"))
        self.live[self.fabric.order(tenant, self.chance.randint(1, 4), named)] = tenant

    def end(self) -> None:
        """Release a service."""
        if self.live:
            service = self.chance.choice(sorted(self.live))
            self.live.pop(service).member.delete(f"/v1/services/{service}")

    def break_node(self) -> None:
        """Let a node fall silent."""
        self.fabric.factory.driver.fail_node(self.chance.choice(self.nodes))

    def heal(self) -> None:
        """Bring every node back."""
        for name in self.nodes:
            self.fabric.factory.driver.heal_node(name)

    def trouble(self) -> None:
        """Let the fabric manager refuse everything, or be well again."""
        self.fabric.manager.trouble = None if self.fabric.manager.trouble else "out of order"

    def kill_agent(self) -> None:
        """Start the agent anew."""
        self.fabric.factory.agent = self.fabric.factory.new_agent()

    def kill_engine(self) -> None:
        """End the engine at one of its writes; a new one knows nothing."""
        left = self.chance.randint(0, 4)

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def write(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return real(*arguments, **more)

            return write

        plane = self.fabric.plane
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):  # the end is what is wanted
            for name in WRITES:
                patch.setattr(member_store, name, dying(getattr(member_store, name)))
            plane.fabric.tick()
        plane.fabric = FabricPartitionEngine(plane.db, plane.clock, plane.wakeups)
        self.fabric.check()

    def something(self) -> None:
        """Do one of it."""
        also = (self.break_node, self.heal, self.trouble, self.kill_agent, self.kill_engine, self.kill_engine)
        self.chance.choice((self.order, self.order, self.order, self.end, self.end, *also))()
        self.fabric.turn(1, seconds=self.chance.choice((0.5, 3.0, 8.0)))


@pytest.mark.parametrize("seed", range(4))
def test_no_node_is_left_in_the_partition_of_who_holds_nothing_on_it(
    control_plane: ControlPlane, clock: ManualClock, tmp_path: Path, acme: Tenant, globex: Tenant, seed: int
) -> None:
    fabric = FabricFactory(control_plane, clock, tmp_path)
    chaos = Chaos(fabric, (acme, globex), seed)
    for _ in range(25):
        chaos.something()
    chaos.heal()
    fabric.manager.trouble = None
    fabric.turn(10, seconds=20.0)
    assert fabric.leaks() == []
    for service, tenant in chaos.live.items():
        tenant.member.delete(f"/v1/services/{service}")
    fabric.turn(8, seconds=20.0)
    assert (fabric.manager.partitions(), fabric.leaks()) == ({}, [])
    assert query(fabric.plane.context, "SELECT id FROM node WHERE kept_for IS NOT NULL") == []
    fabric.factory.close()
