"""All devices of one class, counted where placement decides: by node, by NVLink domain, by both.

A *cell* is the devices of the class on one node in one NVLink domain; a *group* is all of them on one node;
an *island* is all of them in one NVLink domain (devices without a link form an island per node that is
marked unlinked). The *outer* of a cell is the larger of its island and its group: a rack-wide domain of
four-GPU nodes, or an eight-GPU node with pairs in it. Outers are what placement keeps whole.
"""

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from penstock.base.clock import to_epoch_us
from penstock.domain.claim import HOST_ATTACHES, DeviceState, Level
from penstock.domain.device import Attach
from penstock.domain.reservation import Booking
from penstock.scheduler.arrays import I64, UNBOUNDED, ChangeLog, Table, mix

if TYPE_CHECKING:
    from penstock.scheduler.filters import Capacity, Ceiling, Need
    from penstock.scheduler.gang import Areas
    from penstock.scheduler.loss import Losses
    from penstock.scheduler.packing.lookahead import Lookahead

# Columns of a device.
# DRAWS: its load power is held now, KEPT: a reservation keeps that, CAPPED: its own power budget is below that.
# BOOKED are the slices on the calendar, BEGUN those of them that yielding work must leave too, FROM when the first begins.
(
    NODE,
    CELL,
    SLICES,
    MEMORY,
    SLICE_MEMORY,
    USED,
    HEALTHY,
    YIELDING,
    BOOKED,
    BEGUN,
    FROM,
    DRAWS,
    KEPT,
    CAPPED,
    ATTACH,
) = range(15)
ATTACHES = tuple(Attach)  # ATTACH is a place in it
# Columns of a cell; a group has the first four, an island FREE and TOTAL and SITE and LINKED. Of the free devices of a
# cell BOOKED_FREE are on the calendar.
FREE, TOTAL, UNHEALTHY, CELL_NODE, GROUP, ISLAND, BOOKED_FREE, BEGUN_FREE = range(8)
SITE, LINKED = CELL_NODE, GROUP


@dataclass(frozen=True, slots=True)
class Layout:
    """How the cells of a pool nest, worked out once per change of topology."""

    version: int
    outer_of_cell: I64
    outer_by_island: I64  # 1 where the outer is an island, 0 where it is a group
    outer_free: I64  # kept up to date by Pool.change
    outer_total: I64
    group_site: I64
    cells_by_outer: I64
    outer_starts: I64
    cells_by_group: I64
    group_starts: I64
    one_cell_nodes: bool  # no node has two domains: what a cell holds is what its node holds
    memory_min: int
    memory_max: int
    slices_min: int
    slices_max: int

    def cells_of_outer(self, outer: int) -> I64:
        """Return the cells in one outer."""
        return self.cells_by_outer[self.outer_starts[outer] : self.outer_starts[outer + 1]]

    def cells_of_group(self, group: int) -> I64:
        """Return the cells of one node."""
        return self.cells_by_group[self.group_starts[group] : self.group_starts[group + 1]]


def _bucket(keys: I64, count: int) -> tuple[I64, I64]:
    """Return the rows sorted by key, and where each of the ``count`` keys starts."""
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys, minlength=count), out=starts[1:])
    return np.argsort(keys, kind="stable"), starts


class Pool:
    """The devices of one class. Only ``Fleet`` writes to it."""

    def __init__(self, device_class: str) -> None:
        self.device_class = device_class
        self.devices = Table(15)
        self.device_ids: list[str] = []
        self.numa: list[
            int | None
        ] = []  # the NUMA node of its host that each device is near; None: nobody says
        self.cells = Table(8)
        self.groups = Table(4)
        self.islands = Table(5)
        self.island_names: list[str | None] = []
        self.cell_devices: list[list[int]] = []
        self.log = ChangeLog()
        self.total = 0
        self.repainted = False  # it is shown as it will be at a time to come
        self.capped = 0
        self.odd = 0  # devices that only machines can be given
        self.near = 0  # devices whose NUMA node is known
        self.topology_version = 0
        self.capacities: OrderedDict[Need, Capacity] = OrderedDict()
        self.ceilings: dict[Need, tuple[int, Ceiling]] = {}
        self.bookings: dict[int, tuple[Booking, ...]] = {}  # by row, of those that have any
        self._starts: I64 | None = None
        self._booked_rows: I64 | None = None
        self.areas: dict[Level | None, tuple[tuple[int, int], Areas]] = {}
        self.losses: OrderedDict[int, tuple[Lookahead, Losses]] = OrderedDict()
        self._cell_rows: dict[tuple[int, str | None], int] = {}
        self._cell_keys: list[tuple[int, str | None]] = []
        self._group_rows: dict[int, int] = {}
        self._island_rows: dict[tuple[int, str | int], int] = {}
        self._island_keys: list[tuple[int, str | int]] = []
        self._layout: Layout | None = None

    def add(self, device: DeviceState, node: int, site: int) -> tuple[int, int, bool]:
        """Store a device that is not here yet; return its row, its cell and whether the cell is new."""
        self._relaid()  # first: a layout does not know of a cell that is added below
        cell, is_new = self._cell(node, site, device.nvlink_domain)
        row = self.devices.add(
            (
                node,
                cell,
                device.slices,
                device.memory_bytes,
                device.slice_memory_bytes,
                0,
                1,
                0,
                0,
                0,
                UNBOUNDED,
                int(device.draws),
                int(device.power_booked),
                0,
                ATTACHES.index(device.attach),
            )
        )
        if row == len(self.device_ids):
            self.device_ids.append(device.device_id)
            self.numa.append(device.numa_node)
        else:
            self.device_ids[row], self.numa[row] = device.device_id, device.numa_node
        self.cell_devices[cell].append(row)
        self._count_kind(device.attach, device.numa_node, 1)
        self._count(cell, total=1, free=1, unhealthy=0)
        self.change(row, device.used_mask, healthy=device.healthy, yielding_mask=device.yielding_mask)
        self.book(row, device.bookings)
        return row, cell, is_new

    def remove(self, row: int) -> tuple[int, int, bool]:
        """Forget the device at ``row``; return its node, its cell and whether the cell is gone too."""
        self.book(row, ())
        self.change(row, 0, healthy=True)
        self.cap(row, capped=False)
        node, cell = int(self.devices.data[NODE, row]), int(self.devices.data[CELL, row])
        self.cell_devices[cell].remove(row)
        self._count(cell, total=-1, free=-1, unhealthy=0)
        self._count_kind(ATTACHES[int(self.devices.data[ATTACH, row])], self.numa[row], -1)
        self.devices.drop(row)
        self._relaid()
        gone = not self.cell_devices[cell]
        if gone:
            self._drop_cell(cell)
        return node, cell, gone

    def same(self, row: int, device: DeviceState, node: int) -> bool:
        """Tell whether ``device`` on ``node`` is what stands at ``row``, but for what changes with its use."""
        column: list[int] = self.devices.data[:, row].tolist()
        return (
            self.device_class == device.device_class
            and column[NODE] == node
            and column[SLICES] == device.slices
            and column[MEMORY] == device.memory_bytes
            and column[SLICE_MEMORY] == device.slice_memory_bytes
            and ATTACHES[column[ATTACH]] is device.attach
            and self.numa[row] == device.numa_node
            and self.island_name(column[CELL]) == device.nvlink_domain
        )

    def _count_kind(self, attach: Attach, numa: int | None, sign: int) -> None:
        self.total += sign
        self.odd += sign * int(attach not in HOST_ATTACHES)
        self.near += sign * int(numa is not None)

    def change(self, row: int, used_mask: int, *, healthy: bool, yielding_mask: int = 0) -> None:
        """Set the slices in use, those that yield and the health of one device and keep every count right."""
        data = self.devices.data
        was_used, was_healthy = int(data[USED, row]), bool(data[HEALTHY, row])
        data[USED, row], data[HEALTHY, row] = used_mask, healthy
        data[YIELDING, row] = yielding_mask & used_mask
        free = int(healthy and used_mask == 0) - int(was_healthy and was_used == 0)
        if free and data[BOOKED, row]:
            self._count_booked(row, free)
        unhealthy = int(was_healthy) - int(healthy)
        if free or unhealthy:
            self._count(int(data[CELL, row]), total=0, free=free, unhealthy=unhealthy)

    def book(self, row: int, bookings: tuple[Booking, ...]) -> None:
        """Set what is on the calendar for one device and keep every count right."""
        if not bookings and row not in self.bookings:
            return
        data = self.devices.data
        free = int(bool(data[HEALTHY, row]) and data[USED, row] == 0)
        self._count_booked(row, -free)
        booked = begun = 0
        for one in bookings:
            booked |= one.mask
            begun |= one.mask if one.begun else 0
        starts = [to_epoch_us(one.start) for one in bookings]
        data[BOOKED, row], data[BEGUN, row], data[FROM, row] = booked, begun, min(starts, default=UNBOUNDED)
        self._count_booked(row, free)
        if bookings:
            self.bookings[row] = bookings
        else:
            del self.bookings[row]
        self._starts = self._booked_rows = None

    def cap(self, row: int, *, capped: bool) -> None:
        """Say whether the device's own power budget is too small for work."""
        change = int(capped) - int(self.devices.data[CAPPED, row])
        if change:
            self.devices.data[CAPPED, row] = capped
            self.capped += change
            self.capacities.clear()

    def settle_draw(self, row: int) -> int:
        """Hold the load power of the device at ``row`` if it is in use or that is kept; return 1, 0 or -1: how that changed."""
        data = self.devices.data
        draws = int(data[USED, row] != 0 or data[KEPT, row] != 0)
        change = draws - int(data[DRAWS, row])
        data[DRAWS, row] = draws
        return change

    def hash(self, row: int) -> int:
        """Return a number of what the device at ``row`` is and is used for."""
        data = self.devices.data
        health = 2 + int(data[HEALTHY, row]) + (int(data[BOOKED, row]) << 2)
        return mix(crc32(self.device_ids[row].encode()), int(data[USED, row]), health)

    def booked_rows(self) -> I64:
        """Return the rows of all devices that anything is on the calendar for, sorted."""
        if self._booked_rows is None:
            self._booked_rows = np.array(sorted(self.bookings), dtype=np.int64)
        return self._booked_rows

    @contextmanager
    def painted(self, used: I64) -> Generator[None]:
        """Show other slices in use (a column of all devices) and nothing on the calendar, then put all back as it was.

        What is worked out meanwhile is thrown away, and what was known before is known again: nothing is noted as changed.
        """
        layout, tables = self.layout(), (self.devices, self.cells, self.groups, self.islands)
        data = [table.data.copy() for table in tables]
        free, known = layout.outer_free.copy(), (self.bookings, self.capacities, self.losses)
        try:
            self.bookings, self.capacities, self.losses = {}, OrderedDict(), OrderedDict()
            self._starts = self._booked_rows = None
            self.repainted = True
            devices = self.devices.data
            devices[USED, : self.devices.size] = used
            devices[[YIELDING, BOOKED, BEGUN]] = 0
            devices[FROM] = UNBOUNDED
            self._recount(layout)
            yield
        finally:
            for table, before in zip(tables, data, strict=True):
                table.data = before
            layout.outer_free[:] = free
            self.repainted = False
            self.bookings, self.capacities, self.losses = known
            self._starts = self._booked_rows = None

    def _recount(self, layout: Layout) -> None:
        """Count the free devices anew everywhere; nothing is booked."""
        devices, cells = self.devices, self.cells
        free = (devices.column(USED) == 0) & (devices.column(HEALTHY) == 1) & (devices.column(SLICES) > 0)
        per_cell = np.bincount(devices.column(CELL)[free], minlength=cells.size)
        cells.data[FREE, : cells.size] = per_cell
        cells.data[[BOOKED_FREE, BEGUN_FREE]] = 0
        for table, column in ((self.groups, GROUP), (self.islands, ISLAND)):
            sums = np.bincount(cells.column(column), weights=per_cell, minlength=table.size)
            table.data[FREE, : table.size] = sums.astype(np.int64)
        outers = np.bincount(layout.outer_of_cell, weights=per_cell, minlength=len(layout.outer_free))
        layout.outer_free[:] = outers.astype(np.int64)

    def horizon(self, until_us: int) -> int:
        """Return the start of the first booking at or after ``until_us``, UNBOUNDED if there is none.

        Orders that end between the same two starts are kept from the same devices.
        """
        if self._starts is None:
            starts = {to_epoch_us(one.start) for bookings in self.bookings.values() for one in bookings}
            self._starts = np.array(sorted(starts), dtype=np.int64)
        at = int(np.searchsorted(self._starts, until_us))
        return int(self._starts[at]) if at < len(self._starts) else UNBOUNDED

    def _count_booked(self, row: int, free: int) -> None:
        data, cells = self.devices.data, self.cells.data
        cell = int(data[CELL, row])
        cells[BOOKED_FREE, cell] += free * int(data[BOOKED, row] != 0)
        cells[BEGUN_FREE, cell] += free * int(data[BEGUN, row] != 0)

    def free_devices(self, cell: int, count: int) -> list[int]:
        """Return the rows of the first ``count`` devices of a cell that FREE counts."""
        used, healthy = self.devices.data[USED], self.devices.data[HEALTHY]
        free = (row for row in self.cell_devices[cell] if not used[row] and healthy[row])
        return list(islice(free, count))

    def layout(self) -> Layout:
        """Return how the cells nest now."""
        if self._layout is None:
            self._layout = self._lay_out()
        return self._layout

    def whole_mask(self, row: int) -> int:
        """Return the mask of every slice of the device at ``row``."""
        return (1 << int(self.devices.data[SLICES, row])) - 1

    def island_name(self, cell: int) -> str | None:
        """Return the NVLink domain of a cell, None if its devices have no link."""
        return self.island_names[int(self.cells.data[ISLAND, cell])]

    def _count(self, cell: int, *, total: int, free: int, unhealthy: int) -> None:
        cells = self.cells.data
        for table, row in (
            (cells, cell),
            (self.groups.data, cells[GROUP, cell]),
            (self.islands.data, cells[ISLAND, cell]),
        ):
            table[FREE, row] += free
            table[TOTAL, row] += total
            table[UNHEALTHY, row] += unhealthy
        if self._layout is not None and free:
            self._layout.outer_free[self._layout.outer_of_cell[cell]] += free

    def _relaid(self) -> None:
        self.topology_version += 1
        self._layout = None
        self.capacities.clear()
        self.losses.clear()

    def _cell(self, node: int, site: int, domain: str | None) -> tuple[int, bool]:
        known = self._cell_rows.get((node, domain))
        if known is not None:
            return known, False
        group = self._group_rows.get(node)
        if group is None:
            group = self.groups.add((0, 0, 0, node))
            self._group_rows[node] = group
        island_key = (site, node if domain is None else domain)
        island = self._island_rows.get(island_key)
        if island is None:
            island = self.islands.add((0, 0, 0, site, int(domain is not None)))
            self._island_rows[island_key] = island
            if island == len(self.island_names):
                self.island_names.append(domain)
                self._island_keys.append(island_key)
            else:
                self.island_names[island], self._island_keys[island] = domain, island_key
        cell = self.cells.add((0, 0, 0, node, group, island, 0, 0))
        self._cell_rows[(node, domain)] = cell
        if cell == len(self.cell_devices):
            self.cell_devices.append([])
            self._cell_keys.append((node, domain))
        else:
            self._cell_keys[cell] = (node, domain)
        return cell, True

    def _drop_cell(self, cell: int) -> None:
        group, island = int(self.cells.data[GROUP, cell]), int(self.cells.data[ISLAND, cell])
        del self._cell_rows[self._cell_keys[cell]]
        if self.groups.data[TOTAL, group] == 0:
            del self._group_rows[int(self.groups.data[CELL_NODE, group])]
            self.groups.drop(group)
        if self.islands.data[TOTAL, island] == 0:
            del self._island_rows[self._island_keys[island]]
            self.islands.drop(island)
        self.cells.drop(cell)

    def _lay_out(self) -> Layout:
        cells, groups, islands = self.cells, self.groups, self.islands
        group, island = cells.column(GROUP), cells.column(ISLAND)
        by_island = islands.data[TOTAL][island] > groups.data[TOTAL][group]
        names, outer = np.unique(np.where(by_island, 2 * island, 2 * group + 1), return_inverse=True)
        outer = outer.astype(np.int64).reshape(-1)
        free = np.zeros(len(names), dtype=np.int64)
        np.add.at(free, outer, cells.column(FREE))
        total = np.zeros(len(names), dtype=np.int64)
        np.add.at(total, outer, cells.column(TOTAL))
        cells_by_outer, outer_starts = _bucket(outer, len(names))
        cells_by_group, group_starts = _bucket(group, groups.size)
        group_site = np.zeros(groups.size, dtype=np.int64)
        held = cells.column(TOTAL) > 0  # a spare row points at row 0 and must not speak for it
        group_site[group[held]] = islands.data[SITE][island[held]]
        memory, slices = self.devices.column(MEMORY), self.devices.column(SLICES)
        alive = slices > 0
        return Layout(
            version=self.topology_version,
            outer_of_cell=outer,
            outer_by_island=(names % 2 == 0).astype(np.int64),
            outer_free=free,
            outer_total=total,
            group_site=group_site,
            cells_by_outer=cells_by_outer,
            outer_starts=outer_starts,
            cells_by_group=cells_by_group,
            group_starts=group_starts,
            one_cell_nodes=bool(np.bincount(group[held], minlength=1).max() <= 1),
            memory_min=int(memory[alive].min(initial=1 << 62)),
            memory_max=int(memory[alive].max(initial=0)),
            slices_min=int(slices[alive].min(initial=1 << 62)),
            slices_max=int(slices[alive].max(initial=0)),
        )
