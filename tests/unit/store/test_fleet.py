"""Reading what changed since a mark: a transaction that was open at the mark and commits late is not missed."""

import sqlalchemy as sa

from penstock.control_plane import ControlPlane
from penstock.store.database import SYSTEM
from penstock.store.fleet import Changes, changes_since, node_names
from tests.support.simulated_factory import SimulatedFactory

_CORDON = sa.text("UPDATE node SET cordoned = true WHERE id = :id")


def read(plane: ControlPlane, mark: int) -> Changes:
    with plane.db.transaction(SYSTEM) as connection:
        return changes_since(connection, mark)


def test_mark_zero_reads_everything_and_the_next_nothing(
    control_plane: ControlPlane, simulated: SimulatedFactory
) -> None:
    first = read(control_plane, 0)
    assert {row["id"] for row in first.nodes} == set(simulated.nodes.values())
    assert len(first.devices) == 8
    second = read(control_plane, first.read_to)
    assert (second.nodes, second.devices) == ([], [])
    assert second.read_to >= first.read_to


def test_a_transaction_that_was_open_at_the_mark_is_read_when_it_has_committed(
    control_plane: ControlPlane, simulated: SimulatedFactory
) -> None:
    late, early = simulated.nodes.values()
    mark = read(control_plane, 0).read_to
    with control_plane.db.transaction(SYSTEM) as slow:
        slow.execute(_CORDON, {"id": late})  # has its number now and commits only below
        with control_plane.db.transaction(SYSTEM) as quick:
            quick.execute(_CORDON, {"id": early})
        meanwhile = read(control_plane, mark)
        assert [row["id"] for row in meanwhile.nodes] == [early]
    after = read(control_plane, meanwhile.read_to)
    assert late in {row["id"] for row in after.nodes}
    assert read(control_plane, after.read_to).nodes == []


def test_a_device_that_is_taken_counts_as_changed(
    control_plane: ControlPlane, simulated: SimulatedFactory
) -> None:
    del simulated
    first = read(control_plane, 0)
    with control_plane.db.transaction(SYSTEM) as connection:
        connection.execute(
            sa.text("UPDATE device SET used_mask = 1 WHERE id = :id"), {"id": first.devices[0]["id"]}
        )
    (changed,) = read(control_plane, first.read_to).devices
    assert (changed["id"], changed["used_mask"]) == (first.devices[0]["id"], 1)


def test_nodes_are_named_and_strangers_are_left_out(
    control_plane: ControlPlane, simulated: SimulatedFactory
) -> None:
    with control_plane.db.transaction(SYSTEM) as connection:
        named = node_names(connection, [*simulated.nodes.values(), "nod_stranger"])
    assert named == {node_id: name for name, node_id in simulated.nodes.items()}
