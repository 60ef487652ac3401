"""The fleet: a compact picture of nodes and devices that placement reads and that changes in O(changes).

The engine loads it once, then applies what it committed and what others changed. It is no store: the claims
gate decides, and a plan made on an old picture is refused there.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

from penstock.base.clock import to_epoch_us
from penstock.base.errors import InvalidInputError
from penstock.domain.claim import Ask, DeviceState, Grant, NodeState
from penstock.domain.device import DeviceClass
from penstock.domain.power_budget import PowerBudget
from penstock.scheduler.arrays import UNBOUNDED, ChangeLog, Table, mix
from penstock.scheduler.node_columns import (
    AREA_COLUMNS,
    ASLEEP,
    COLUMNS,
    CPU_USED,
    DEVICES,
    NODE_MEMORY_USED,
    NODE_SITE,
    PATH,
    SCHEDULABLE,
    WAKE_MW,
)
from penstock.scheduler.outlook import Outlook, prior_outlook
from penstock.scheduler.pool import (
    ATTACH,
    ATTACHES,
    CELL,
    DRAWS,
    HEALTHY,
    KEPT,
    MEMORY,
    NODE,
    SLICE_MEMORY,
    SLICES,
    USED,
    YIELDING,
    Pool,
)
from penstock.scheduler.power_budget import Budgets

if TYPE_CHECKING:
    from penstock.scheduler.filters import Need, NodeCapacity

NETWORKS = "+networks"  # stands among the drivers of a node that carries tenants' networks
DRIVERS_MAX = 62  # a node's drivers are bits of one signed 64-bit integer


class Fleet:
    """Nodes and devices as arrays, with every count that placement needs kept up to date.

    ``classes`` orders the classes of an order that names none (smallest memory first) and prices nothing.
    """

    def __init__(self, classes: Mapping[str, DeviceClass]) -> None:
        self.classes = dict(classes)
        self.outlook = prior_outlook(frozenset((name, one.slices) for name, one in classes.items()))
        self.version = 0
        self.nodes = Table(COLUMNS)
        self.node_log = ChangeLog()
        self.pools: dict[str, Pool] = {}
        self.device_count = 0
        self.facts_version = 0  # grows when hardware comes, goes or changes; not with usage
        self.node_capacities: OrderedDict[Need, NodeCapacity] = OrderedDict()
        self.reserved: dict[str, set[str]] = {}  # device ids by reservation
        self.budgets = Budgets(self.nodes, self.classes)
        self.kept: dict[str, str] = {}  # nodes that only one project may use now, by id
        self._reservations_on: dict[str, frozenset[str]] = {}
        self._fingerprint = 0
        self._node_rows: dict[str, int] = {}
        self._node_states: list[NodeState] = []  # what never changes of a node; usage is in the table
        self._node_hashes: list[int] = []
        self._node_cells: list[list[tuple[Pool, int]]] = []
        self._device_homes: dict[str, tuple[Pool, int]] = {}
        self._driver_bits: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._areas: dict[tuple[str, ...], int] = {}

    @property
    def node_count(self) -> int:
        """Return how many nodes are known."""
        return len(self._node_rows)

    def expect(self, outlook: Outlook) -> None:
        """Judge places by ``outlook`` from now on."""
        self.outlook = outlook
        for pool in self.pools.values():
            pool.losses.clear()

    def limit(self, budgets: Iterable[PowerBudget]) -> None:
        """Take over power budgets as they are now, with what they hold; those without a limit are removed."""
        devices = self.budgets.device_mw.keys()
        if not self.budgets.put(budgets):
            return
        for row in self._node_rows.values():
            self.nodes.data[PATH, row] = self.budgets.path(self._node_states[row])
        for device_id in {*devices, *self.budgets.device_mw}:
            if device_id in self._device_homes:
                self._cap(device_id)

    def _cap(self, device_id: str) -> None:
        pool, row = self._device_homes[device_id]
        pool.cap(row, capped=self.budgets.caps(device_id, pool.device_class))

    def digest(self) -> str:
        """Return the id of this very state: a version that grows and a hash of what is used and usable.

        Two fleets with the same nodes, devices and usage have the same hash, whatever way they came to it.
        """
        return f"{self.version}-{self._fingerprint ^ self.budgets.digest:016x}"

    # -- nodes ------------------------------------------------------------------------------------------

    def upsert_nodes(self, nodes: Iterable[NodeState]) -> None:
        """Add nodes or replace what is known of them; raises InvalidInputError at too many driver names."""
        for node in nodes:
            offered = node.drivers | {NETWORKS} if node.networks else node.drivers
            bits = sum(1 << self._driver_bit(driver) for driver in offered)
            row = self._node_rows.get(node.node_id)
            devices = 0
            if row is not None:
                devices = int(self.nodes.data[DEVICES, row])
                self._fingerprint ^= self._node_hash(row)
                if node.site_id != self._node_states[row].site_id and devices:
                    self._move_site(node, row)
            values = (
                1,
                int(node.schedulable),
                node.memory_bytes,
                node.memory_used_bytes,
                node.cpu_millis,
                node.cpu_used_millis,
                bits,
                self._name(node.architecture),
                self._name(node.site_id),
                devices,
                *(self._area(node.area(level)) for level in AREA_COLUMNS),
                UNBOUNDED if node.maintenance_from is None else to_epoch_us(node.maintenance_from),
                int(node.asleep),
                node.wake_mw,
                *self.budgets.path(node),
            )
            if row is None:
                row = self._new_node(node, values)
            else:
                self._replace_node(row, node, values)
            self.kept.pop(node.node_id, None)
            if node.kept_for is not None:
                self.kept[node.node_id] = node.kept_for
            self.budgets.sleeps(row, asleep=node.asleep)
            self._fingerprint ^= self._node_hash(row)
            self._touch(row)

    def closed_to(self, ask: Ask) -> frozenset[str]:
        """Return the nodes that ``ask`` may not have: those it avoids, and those kept for other projects."""
        if not self.kept:
            return ask.avoid_nodes
        return ask.avoid_nodes | {node for node, owner in self.kept.items() if owner != ask.project_id}

    def closing(self, ask: Ask) -> Ask:
        """Return ``ask`` as one that avoids whatever is closed to it."""
        return replace(ask, avoid_nodes=self.closed_to(ask)) if self.kept else ask

    def remove_nodes(self, node_ids: Iterable[str]) -> None:
        """Forget nodes and the devices on them; unknown ids are already gone."""
        for node_id in node_ids:
            row = self._node_rows.get(node_id)
            if row is None:
                continue
            self.remove_devices(self._devices_on(row))
            self._fingerprint ^= self._node_hash(row)
            del self._node_rows[node_id]
            self.kept.pop(node_id, None)
            self.budgets.sleeps(row, asleep=False)
            self.nodes.drop(row)
            self.facts_version += 1
            self._touch(row)

    def node_state(self, node_id: str) -> NodeState:
        """Return a node as it is now; raises KeyError for an unknown one."""
        return self.node_at(self._node_rows[node_id])

    def node_at(self, row: int) -> NodeState:
        """Return the node in a row of ``nodes``."""
        node, data = self._node_states[row], self.nodes.data
        return replace(
            node,
            schedulable=bool(data[SCHEDULABLE, row]),
            memory_used_bytes=int(data[NODE_MEMORY_USED, row]),
            cpu_used_millis=int(data[CPU_USED, row]),
            asleep=bool(data[ASLEEP, row]),
            wake_mw=int(data[WAKE_MW, row]),
        )

    def node_row(self, node_id: str) -> int | None:
        """Return the row of a node in ``nodes``, None if it is unknown."""
        return self._node_rows.get(node_id)

    def node_name(self, row: int) -> str:
        """Return the id of the node in a row."""
        return self._node_states[row].node_id

    def driver_mask(self, driver: str) -> int:
        """Return the bit of a driver in the DRIVERS column, 0 if no node ever offered it."""
        bit = self._driver_bits.get(driver)
        return 0 if bit is None else 1 << bit

    def name_code(self, name: str) -> int:
        """Return the number of an architecture or site name, -1 if no node ever had it."""
        return self._names.get(name, -1)

    def site_name(self, code: int) -> str:
        """Return the site id behind a value of the NODE_SITE column."""
        return next(name for name, value in self._names.items() if value == code)

    # -- devices ----------------------------------------------------------------------------------------

    def upsert_devices(self, devices: Iterable[DeviceState]) -> None:
        """Add devices or replace what is known of them; raises KeyError if the node of one is unknown."""
        for device in devices:
            node = self._node_rows[device.node_id]
            home = self._device_homes.get(device.device_id)
            if home is not None and not home[0].same(home[1], device, node):
                self.remove_devices([device.device_id])
                home = None
            if home is None:
                self._add_device(device, node)
            else:
                pool, row = home
                self._fingerprint ^= pool.hash(row)
                pool.change(row, device.used_mask, healthy=device.healthy, yielding_mask=device.yielding_mask)
                pool.book(row, device.bookings)
                pool.devices.data[[DRAWS, KEPT], row] = device.draws, device.power_booked
                self._fingerprint ^= pool.hash(row)
            self._note_reserved(device)
            self._touch(node)

    def remove_devices(self, device_ids: Iterable[str]) -> None:
        """Forget devices; unknown ids are already gone."""
        for device_id in device_ids:
            home = self._device_homes.pop(device_id, None)
            if home is None:
                continue
            pool, row = home
            self._note_reserved(replace(self.device_at(pool, row), bookings=()))
            self._fingerprint ^= pool.hash(row)
            node, cell, cell_gone = pool.remove(row)
            if cell_gone:
                self._node_cells[node].remove((pool, cell))
            self.nodes.data[DEVICES, node] -= 1
            self.device_count -= 1
            self.facts_version += 1
            self._touch(node)

    def device_state(self, device_id: str) -> DeviceState:
        """Return a device as it is now; raises KeyError for an unknown one."""
        pool, row = self._device_homes[device_id]
        return self.device_at(pool, row)

    def device_at(self, pool: Pool, row: int) -> DeviceState:
        """Return the device in a row of a pool."""
        column: list[int] = pool.devices.data[:, row].tolist()
        return DeviceState(
            device_id=pool.device_ids[row],
            node_id=self._node_states[column[NODE]].node_id,
            device_class=pool.device_class,
            slices=column[SLICES],
            memory_bytes=column[MEMORY],
            slice_memory_bytes=column[SLICE_MEMORY],
            used_mask=column[USED],
            healthy=bool(column[HEALTHY]),
            nvlink_domain=pool.island_name(column[1]),
            yielding_mask=column[YIELDING],
            bookings=pool.bookings.get(row, ()),
            attach=ATTACHES[column[ATTACH]],
            numa_node=pool.numa[row],
            power_booked=bool(column[KEPT]) or (bool(column[DRAWS]) and not column[USED]),
        )

    def device_home(self, device_id: str) -> tuple[Pool, int] | None:
        """Return the pool and row of a device, None if it is unknown."""
        return self._device_homes.get(device_id)

    def _note_reserved(self, device: DeviceState) -> None:
        """Keep the devices of each reservation by its id."""
        ids = {one.reservation_id for one in device.bookings}
        known = self._reservations_on.pop(device.device_id, frozenset())
        for gone in known - ids:
            self.reserved[gone].discard(device.device_id)
            if not self.reserved[gone]:
                del self.reserved[gone]
        for one in ids:
            self.reserved.setdefault(one, set()).add(device.device_id)
        if ids:
            self._reservations_on[device.device_id] = frozenset(ids)

    def row_of(self, device_id: str) -> int:
        """Return the row of a device within the pool of its class; raises KeyError for an unknown one."""
        return self._device_homes[device_id][1]

    def cell_of(self, device_id: str) -> int:
        """Return the cell of a device within the pool of its class; raises KeyError for an unknown one."""
        pool, row = self._device_homes[device_id]
        return int(pool.devices.data[CELL, row])

    def pools_for(self, ask: Ask) -> list[Pool]:
        """Return the classes that could serve ``ask``: in its own order, else the smallest sufficient one first."""
        if ask.device_class is not None:
            pool = self.pools.get(ask.device_class)
            return [pool] if pool is not None and pool.total else []
        pools = [
            pool
            for pool in self.pools.values()
            if pool.total
            and ask.takes(pool.device_class)
            and (ask.slices or pool.layout().memory_max >= ask.memory_bytes_min)
        ]
        if ask.classes:
            return sorted(pools, key=lambda pool: ask.classes.index(pool.device_class))
        return sorted(pools, key=self._class_size)

    # -- claims -----------------------------------------------------------------------------------------

    def apply(self, grants: Sequence[Grant], *, yields: bool = False) -> None:
        """Mark ``grants`` as held, and with ``yields`` as held by work that yields.

        Raises ValueError if a slice is in use already and KeyError for an unknown node or device; then
        nothing is changed.
        """
        self._check_known(grants)
        for done, grant in enumerate(grants):
            if grant.device_id is not None:
                used = self._used(grant.device_id)
                if used & grant.mask:
                    self.revert(grants[:done])
                    raise ValueError(f"slices {grant.mask:#x} of device {grant.device_id} are in use")
                self._set_used(grant.device_id, used | grant.mask, yields=grant.mask if yields else 0)
            self._charge(grant, 1)

    def revert(self, grants: Sequence[Grant]) -> None:
        """Undo ``apply`` of the same grants.

        Raises ValueError if one is not held, KeyError for an unknown node or device; then nothing is changed.
        """
        self._check_known(grants)
        undone: list[Grant] = []
        for grant in grants:
            if grant.device_id is not None:
                used = self._used(grant.device_id)
                if grant.mask & ~used:
                    self.apply(undone)
                    raise ValueError(f"slices {grant.mask:#x} of device {grant.device_id} are not held")
                self._set_used(grant.device_id, used & ~grant.mask)
            self._charge(grant, -1)
            undone.append(grant)

    def holds(self, grant: Grant) -> bool:
        """Tell whether a grant of a device is held on this picture."""
        home = self._device_homes.get(grant.device_id or "")
        return home is not None and grant.mask & ~int(home[0].devices.data[USED, home[1]]) == 0

    def mark_yielding(self, grants: Sequence[Grant]) -> None:
        """Note that held grants yield; raises KeyError for an unknown device."""
        for grant in grants:
            pool, row = self._device_homes[grant.device_id or ""]
            data = pool.devices.data
            data[YIELDING, row] |= grant.mask & int(data[USED, row])

    def _check_known(self, grants: Sequence[Grant]) -> None:
        for grant in grants:
            if grant.node_id not in self._node_rows:
                raise KeyError(grant.node_id)
            if grant.device_id is not None and grant.device_id not in self._device_homes:
                raise KeyError(grant.device_id)

    def _used(self, device_id: str) -> int:
        pool, row = self._device_homes[device_id]
        return int(pool.devices.data[USED, row])

    def _set_used(self, device_id: str, used: int, *, yields: int = 0) -> None:
        pool, row = self._device_homes[device_id]
        self._fingerprint ^= pool.hash(row)
        data = pool.devices.data
        yielding = int(data[YIELDING, row]) | yields
        pool.change(row, used, healthy=bool(data[HEALTHY, row]), yielding_mask=yielding)
        change = pool.settle_draw(row)
        if change and self.budgets.active:
            self.budgets.draw(int(data[NODE, row]), change * self.budgets.draw_mw(pool.device_class))
        self._fingerprint ^= pool.hash(row)

    def _charge(self, grant: Grant, sign: int) -> None:
        row = self._node_rows[grant.node_id]
        if grant.node_memory_bytes or grant.node_cpu_millis:
            self._fingerprint ^= self._node_hash(row)
            self.nodes.data[NODE_MEMORY_USED, row] += sign * grant.node_memory_bytes
            self.nodes.data[CPU_USED, row] += sign * grant.node_cpu_millis
            self._fingerprint ^= self._node_hash(row)
        if self.budgets.asleep:
            self.budgets.wake(row, sign)
        self._touch(row)

    # -- inside -----------------------------------------------------------------------------------------

    def _touch(self, node: int) -> None:
        self.version += 1
        self.node_log.note(node)
        for pool, cell in self._node_cells[node]:
            pool.log.note(cell)

    def _new_node(self, node: NodeState, values: tuple[int, ...]) -> int:
        row = self.nodes.add(values)
        name_hash = crc32(node.node_id.encode())
        if row == len(self._node_states):
            self._node_states.append(node)
            self._node_hashes.append(name_hash)
            self._node_cells.append([])
        else:
            self._node_states[row], self._node_hashes[row] = node, name_hash
        self._node_rows[node.node_id] = row
        self.facts_version += 1
        return row

    def _replace_node(self, row: int, node: NodeState, values: tuple[int, ...]) -> None:
        known = self._node_states[row]
        if (known.memory_bytes, known.cpu_millis, known.drivers, known.architecture, known.networks) != (
            node.memory_bytes,
            node.cpu_millis,
            node.drivers,
            node.architecture,
            node.networks,
        ) or any(known.area(level) != node.area(level) for level in AREA_COLUMNS):
            self.facts_version += 1
        self.nodes.data[:, row] = values
        self._node_states[row] = node

    def _add_device(self, device: DeviceState, node: int) -> None:
        pool = self.pools.get(device.device_class)
        if pool is None:
            pool = self.pools[device.device_class] = Pool(device.device_class)
        row, cell, cell_is_new = pool.add(device, node, int(self.nodes.data[NODE_SITE, node]))
        if cell_is_new:
            self._node_cells[node].append((pool, cell))
        self._device_homes[device.device_id] = (pool, row)
        if device.device_id in self.budgets.device_mw:
            self._cap(device.device_id)
        self._fingerprint ^= pool.hash(row)
        self.nodes.data[DEVICES, node] += 1
        self.device_count += 1
        self.facts_version += 1

    def _devices_on(self, node: int) -> list[str]:
        return [
            pool.device_ids[row] for pool, cell in self._node_cells[node] for row in pool.cell_devices[cell]
        ]

    def _move_site(self, node: NodeState, row: int) -> None:
        """Take the devices out and put them back under the new site, to which their islands belong."""
        devices = [self.device_state(device_id) for device_id in self._devices_on(row)]
        self.remove_devices([device.device_id for device in devices])
        self.nodes.data[NODE_SITE, row] = self._name(node.site_id)
        for device in devices:
            self._add_device(device, row)

    def _class_size(self, pool: Pool) -> tuple[int, int, str]:
        known = self.classes.get(pool.device_class)
        power = known.power_watts if known is not None else 0
        return pool.layout().memory_max, power, pool.device_class

    def _driver_bit(self, driver: str) -> int:
        bit = self._driver_bits.get(driver)
        if bit is None:
            bit = len(self._driver_bits)
            if bit >= DRIVERS_MAX:
                raise InvalidInputError(f"a factory has at most {DRIVERS_MAX} drivers", field="drivers")
            self._driver_bits[driver] = bit
        return bit

    def _name(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def _area(self, key: tuple[str, ...]) -> int:
        return self._areas.setdefault(key, len(self._areas))

    def _node_hash(self, row: int) -> int:
        column: list[int] = self.nodes.data[:, row].tolist()
        return mix(
            self._node_hashes[row] << 1 | column[SCHEDULABLE], column[NODE_MEMORY_USED], column[CPU_USED]
        )
