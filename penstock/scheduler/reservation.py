"""Planning on the calendar: inside a reservation, for a time to come, and the earliest time that would do.

For a time to come the picture is repainted as it will be then, planned on with ``place``, and put back; what
that costs grows with what is on the calendar, not with the fleet. The choice is judged by ``domain.claim.fits``
on the devices as they are, as the gate will.
"""

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from penstock.base.clock import from_epoch_us, to_epoch_us
from penstock.base.limits import EARLIEST_STARTS_MAX, EARLIEST_STARTS_TRIED_MAX
from penstock.domain.claim import Ask, DeviceState, fits
from penstock.domain.reservation import Leaving, Window, blocked_mask, used_later
from penstock.scheduler.arrays import I64, UNBOUNDED
from penstock.scheduler.plan import Plan, PlanDefectError
from penstock.scheduler.pool import HEALTHY, USED, YIELDING, Pool
from penstock.scheduler.snapshot import Fleet

Ends = Mapping[str, tuple[Leaving, ...]]  # what is in use with a known end, by device id


def inside(fleet: Fleet, ask: Ask) -> Fleet:
    """Return a small fleet of nothing but what the ask's reservation holds and has free, for an ask without one."""
    part = Fleet(fleet.classes)
    part.expect(fleet.outlook)
    own = ask.reservation_id or ""
    devices: list[DeviceState] = []
    for device_id in sorted(fleet.reserved.get(own, ())):
        device = fleet.device_state(device_id)
        mine = 0
        for booking in device.bookings:
            mine |= booking.mask if booking.reservation_id == own and booking.begun else 0
        whole = (1 << device.slices) - 1
        devices.append(
            replace(device, used_mask=device.used_mask | (whole & ~mine), yielding_mask=0, bookings=())
        )
    names = sorted({device.node_id for device in devices})
    part.upsert_nodes(fleet.node_state(name) for name in names)
    part.upsert_devices(devices)
    return part


@contextmanager
def as_of(fleet: Fleet, window: Window, leaving: Ends) -> Generator[None]:
    """Repaint ``fleet`` as it will be during ``window`` (with a start), with nothing else on the calendar."""
    if window.start is None:
        raise ValueError("a time to come has a start")
    version = fleet.version
    with ExitStack() as painted:
        for pool in fleet.pools.values():
            if pool.total:
                painted.enter_context(pool.painted(_used_then(fleet, pool, window, leaving)))
        yield
    fleet.version = version


def _used_then(fleet: Fleet, pool: Pool, window: Window, leaving: Ends) -> I64:
    """Return the slices of each device row of a class that are taken at some time during ``window``."""
    used = pool.devices.column(USED) & ~pool.devices.column(YIELDING)
    for device_id, ends in leaving.items():
        home = fleet.device_home(device_id)
        if home is not None and home[0] is pool and window.start is not None:
            used[home[1]] = used_later(int(used[home[1]]), 0, ends, window.start)
    for row, bookings in pool.bookings.items():
        used[row] |= blocked_mask(bookings, window)
    return used


def _on_calendar(fleet: Fleet, leaving: Ends) -> list[tuple[Pool, int]]:
    """Return the devices whose future differs from now, in a fixed order."""
    found: list[tuple[Pool, int]] = []
    for name in sorted(fleet.pools):
        pool = fleet.pools[name]
        rows = set(pool.bookings) | set(np.flatnonzero(pool.devices.column(YIELDING)).tolist())
        for device_id in leaving:
            home = fleet.device_home(device_id)
            if home is not None and home[0] is pool:
                rows.add(home[1])
        found.extend((pool, row) for row in sorted(rows))
    return found


def verify_later(fleet: Fleet, ask: Ask, plan: Plan, leaving: Ends) -> None:
    """Have ``fits`` judge a plan for a time to come on devices as they are; raises PlanDefectError at a refusal."""
    for grant in plan.grants:
        key = grant.device_id or ""
        device = replace(fleet.device_state(key), leaving=leaving.get(key, ()))
        refusal = fits(ask, grant, fleet.node_state(grant.node_id), device)
        if refusal is not None:
            raise PlanDefectError(f"would book {grant} for {ask} but it is refused: {refusal}")


def now_only(ask: Ask) -> Ask:
    """Return the ask without its time, for a picture that is of that time already."""
    return replace(ask, starts_at=None, ends_at=None, preemptible=False, reservation_id=None)


@dataclass(frozen=True, slots=True)
class Horizon:
    """When places of the pools an order could go to are taken: arrays of [from, until) by device, microseconds."""

    rows: I64
    since_us: I64
    until_us: I64
    free_always: int
    others: int

    def free(self, start_us: int, end_us: int) -> int:
        """Return at most how many whole devices are free during all of ``[start_us, end_us)``."""
        busy = np.zeros(self.others, dtype=np.bool_)
        busy[self.rows[(self.since_us < end_us) & (self.until_us > start_us)]] = True
        return self.free_always + self.others - int(busy.sum())


def horizon_of(fleet: Fleet, ask: Ask, leaving: Ends) -> Horizon:
    """Gather what is known of the future of the devices that ``ask`` could have."""
    pools = fleet.pools_for(ask)
    spans: list[tuple[int, int, int]] = []
    free_always = sum(
        int(((p.devices.column(USED) == 0) & (p.devices.column(HEALTHY) == 1)).sum()) for p in pools
    )
    number = 0
    for pool, row in _on_calendar(fleet, leaving):
        if pool not in pools:
            continue
        device = fleet.device_at(pool, row)
        if not device.healthy:
            continue
        free_always -= int(device.used_mask == 0)
        spans.extend((number, since, until) for since, until in _spans(device, leaving))
        number += 1
    table = np.array(spans, dtype=np.int64).reshape(-1, 3)
    return Horizon(table[:, 0], table[:, 1], table[:, 2], free_always, number)


def _spans(device: DeviceState, leaving: Ends) -> list[tuple[int, int]]:
    """Return when a device is not wholly free."""
    spans = [(to_epoch_us(one.start), to_epoch_us(one.end)) for one in device.bookings]
    held = device.used_mask & ~device.yielding_mask
    for one in leaving.get(device.device_id, ()):
        spans.append((-UNBOUNDED, to_epoch_us(one.end)))
        held &= ~one.mask
    return [*spans, (-UNBOUNDED, UNBOUNDED)] if held else spans


def starts_to_try(
    fleet: Fleet, ask: Ask, leaving: Ends, now: datetime, duration: timedelta | None
) -> list[datetime]:
    """Return the instants after ``now`` at which ``ask`` could first have room, the earliest first.

    Room comes when something ends, so only ends are tried; those at which too few devices could be free are left out.
    """
    horizon = horizon_of(fleet, ask, leaving)
    now_us = to_epoch_us(now)
    ends = np.unique(horizon.until_us)
    ends = ends[(ends > now_us) & (ends < UNBOUNDED)][:EARLIEST_STARTS_MAX]
    length = UNBOUNDED if duration is None else duration // timedelta(microseconds=1)
    needed = 1 if ask.slices else ask.count
    hopeful = [
        end
        for end in ends.tolist()
        if ask.slices or horizon.free(end, min(UNBOUNDED, end + length)) >= needed
    ]
    return [from_epoch_us(end) for end in hopeful[:EARLIEST_STARTS_TRIED_MAX]]


def clock_words(instant: datetime, now: datetime) -> str:
    """Return an instant as a person says it: the time of today, else with its date; UTC."""
    instant = instant.astimezone(UTC)
    if instant.date() == now.astimezone(UTC).date():
        return f"{instant:%H:%M} UTC" if not instant.second else f"{instant:%H:%M:%S} UTC"
    return f"{instant:%Y-%m-%d %H:%M} UTC"
