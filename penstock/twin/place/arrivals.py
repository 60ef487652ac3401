"""Arrivals as in the FGD study: the list in random order, then samples of it, up to 130 % of the fleet."""

from dataclasses import dataclass

import numpy as np

from penstock.base.errors import InvalidInputError
from penstock.base.limits import TWIN_ARRIVALS_MAX
from penstock.scheduler.packing.residual import NodeKind
from penstock.twin.place.traces import Fleet, Workload

ARRIVED_MAX_PERCENT = 130


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One seed's replay: shapes in the order of their arrival, and the nodes in the order that breaks ties."""

    shapes: list[int]
    nodes: list[NodeKind]


def arrivals(fleet: Fleet, workload: Workload, seed: int, copies: int = 1) -> Arrivals:
    """Return the arrivals of ``seed`` at ``copies`` of the fleet, no departures.

    The list is shuffled and filled up by sampling with replacement until the next sample would exceed
    ARRIVED_MAX_PERCENT of the devices; a longer list is cut there. The nodes are shuffled too: in the study
    ties go to the first of a fixed random order.
    """
    random = np.random.default_rng(seed)
    nodes = fleet.nodes * copies
    limit_milli = fleet.capacity_milli * copies * ARRIVED_MAX_PERCENT // 100
    total = workload.shapes.total_milli[workload.rows].tolist()
    order: list[int] = []
    arrived = 0
    for position in random.permutation(len(total)).tolist():
        if arrived + total[position] > limit_milli:
            break
        arrived += total[position]
        order.append(position)
    while True:
        position = int(random.integers(len(total)))
        if arrived + total[position] > limit_milli:
            break
        arrived += total[position]
        order.append(position)
        if len(order) > TWIN_ARRIVALS_MAX:
            raise InvalidInputError(
                f"more than {TWIN_ARRIVALS_MAX} arrivals; ask for fewer copies of the fleet"
            )
    shapes = workload.rows[np.array(order, dtype=np.int64)].tolist()
    return Arrivals(shapes, [nodes[node] for node in random.permutation(len(nodes)).tolist()])
