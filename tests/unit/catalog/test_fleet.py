"""The picture of the fleet: complete at first, cheap afterwards, never behind what has been committed."""

import sqlalchemy as sa

from penstock.catalog.fleet import FleetPicture, SharedPicture
from penstock.control_plane import ControlPlane
from penstock.domain.claim import Ask
from penstock.scheduler import Plan, place_many
from penstock.store.database import SYSTEM
from tests.support.simulated_factory import SimulatedFactory


def refresh(plane: ControlPlane, picture: FleetPicture) -> int:
    with plane.db.transaction(SYSTEM) as connection:
        return picture.refresh(connection)


def usage(picture: FleetPicture) -> str:
    """Return the part of the digest that is the same for the same usage, whatever way it came about."""
    return picture.fleet.digest().partition("-")[2]


def cordon(plane: ControlPlane, node_id: str) -> None:
    with plane.db.transaction(SYSTEM) as connection:
        connection.execute(sa.text("UPDATE node SET cordoned = true WHERE id = :id"), {"id": node_id})


def test_the_first_look_reads_everything_and_a_quiet_one_nothing(
    control_plane: ControlPlane, simulated: SimulatedFactory
) -> None:
    picture = FleetPicture(control_plane.context.device_classes)
    assert refresh(control_plane, picture) == 2 + 8
    assert picture.fleet.node_count == len(simulated.nodes)
    assert refresh(control_plane, picture) == 0


def test_a_change_is_seen_and_costs_its_own_row_only(
    control_plane: ControlPlane, simulated: SimulatedFactory
) -> None:
    picture = FleetPicture(control_plane.context.device_classes)
    refresh(control_plane, picture)
    node_id = next(iter(simulated.nodes.values()))
    cordon(control_plane, node_id)
    assert refresh(control_plane, picture) == 1
    assert not picture.fleet.node_state(node_id).schedulable


def test_what_was_planned_and_did_not_happen_is_gone_after_forgetting(
    control_plane: ControlPlane,
    simulated: SimulatedFactory,
) -> None:
    picture = FleetPicture(control_plane.context.device_classes)
    refresh(control_plane, picture)
    free = usage(picture)
    (plan,) = place_many(picture.fleet, [Ask(3, "H100")])
    assert isinstance(plan, Plan)
    assert usage(picture) != free
    picture.forget()
    assert refresh(control_plane, picture) == len(simulated.nodes) + 8
    assert usage(picture) == free


def test_a_shared_picture_is_as_fresh_as_the_connection_that_looks(
    control_plane: ControlPlane, simulated: SimulatedFactory
) -> None:
    node_id = next(iter(simulated.nodes.values()))
    shared = SharedPicture(control_plane.context.device_classes)
    with control_plane.db.transaction(SYSTEM) as connection, shared.fresh(connection) as fleet:
        assert fleet.node_state(node_id).schedulable
    cordon(control_plane, node_id)
    with control_plane.db.transaction(SYSTEM) as connection, shared.fresh(connection) as fleet:
        assert not fleet.node_state(node_id).schedulable
