"""The counts by cell, node, domain and outer hold after every change."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from penstock.scheduler import Fleet
from penstock.scheduler.pool import FREE, GROUP, ISLAND, TOTAL, UNHEALTHY, Pool
from tests.support.fleets import CLASSES, Picture, device, node, pictures, racks


def counted(pool: Pool) -> tuple[list[int], list[int], list[int]]:
    """Count free, all and unhealthy devices of each cell from the devices alone."""
    cells = pool.cells.size
    free, total, unhealthy = [0] * cells, [0] * cells, [0] * cells
    for cell, rows in enumerate(pool.cell_devices):
        for row in rows:
            column = pool.devices.data[:, row].tolist()
            free[cell] += column[5] == 0 and column[6] == 1
            total[cell] += 1
            unhealthy[cell] += column[6] == 0
    return free, total, unhealthy


@given(pictures(), st.data())
def test_counts_are_those_of_the_devices(picture: Picture, data: st.DataObject) -> None:
    fleet = picture.fleet()
    for pool in fleet.pools.values():
        pool.layout()  # from here on it is kept up to date
    for one in data.draw(st.lists(st.sampled_from(picture.devices or (None,)), max_size=4)):
        if one is not None:
            used, healthy = data.draw(st.integers(0, 1)), data.draw(st.booleans())
            fleet.upsert_devices([replace(one, used_mask=used, healthy=healthy)])
    for pool in fleet.pools.values():
        assert pool.layout().outer_free.sum() == pool.cells.column(FREE).sum()
    if picture.devices:
        fleet.remove_devices(one.device_id for one in data.draw(st.sets(st.sampled_from(picture.devices))))
    for pool in fleet.pools.values():
        free, total, unhealthy = counted(pool)
        assert pool.cells.column(FREE).tolist() == free
        assert pool.cells.column(TOTAL).tolist() == total
        assert pool.cells.column(UNHEALTHY).tolist() == unhealthy
        for table, column in ((pool.groups, GROUP), (pool.islands, ISLAND)):
            sums = [0] * table.size
            for cell, row in enumerate(pool.cells.column(column).tolist()):
                sums[row] += free[cell]
            assert table.column(FREE).tolist() == sums
        assert pool.layout().outer_free.sum() == sum(free)


def test_the_outer_is_the_larger_of_node_and_domain() -> None:
    rack = racks(1, nodes=3).pools["GB200"].layout()
    assert (rack.outer_by_island.tolist(), rack.outer_free.tolist()) == ([1], [12])
    fleet = Fleet(CLASSES)
    fleet.upsert_nodes([node("n1")])
    fleet.upsert_devices(device(f"d{one}", "n1", nvlink_domain=f"pair{one // 2}") for one in range(4))
    pairs = fleet.pools["H100"].layout()
    assert (pairs.outer_by_island.tolist(), pairs.outer_free.tolist()) == ([0], [4])


def test_cells_that_are_gone_leave_no_trace() -> None:
    fleet = racks(1, nodes=2)
    pool = fleet.pools["GB200"]
    for _ in range(5):
        fleet.upsert_nodes([node("visitor")])
        fleet.upsert_devices([device("v", "visitor", "GB200", nvlink_domain="elsewhere")])
        fleet.remove_nodes(["visitor"])
    assert (pool.total, pool.cells.size, pool.groups.size, pool.islands.size) == (8, 3, 3, 2)
    assert fleet.nodes.size == 3
    assert fleet.node_count == 2
