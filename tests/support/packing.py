"""Small fleets and workloads for tests of packing, made by hand or drawn at random."""

import numpy as np
from hypothesis import strategies as st

from penstock.scheduler.packing.lookahead import Lookahead, Prospects
from penstock.scheduler.packing.residual import NodeKind, Request, Residuals
from penstock.scheduler.packing.shape import ANY_MODEL, WHOLE_MILLI, Mix, Shapes, mix_of, shapes_of
from penstock.scheduler.packing.table import CostTable
from penstock.twin.place.policies import scorer

BIG = NodeKind(cpu_milli=96_000, memory_mib=400_000, devices=8, model=0)
SMALL = NodeKind(cpu_milli=16_000, memory_mib=100_000, devices=2, model=1)
CPU_ONLY = NodeKind(cpu_milli=32_000, memory_mib=200_000, devices=0, model=-1)


def ask(
    devices: int = 1,
    milli: int = WHOLE_MILLI,
    cpu: int = 4_000,
    memory: int = 8_000,
    models: int = ANY_MODEL,
) -> Request:
    """Return a request; without devices ``milli`` is 0."""
    return Request(cpu, memory, devices, milli if devices else 0, models)


def workload(*requests: Request) -> tuple[Shapes, Mix, list[int]]:
    """Return the shapes among ``requests``, their mix, and the row of each request."""
    shapes, rows = shapes_of(np.array(requests, dtype=np.int64).T)
    return shapes, mix_of(shapes, rows), rows.tolist()


def table_of(policy: str, nodes: list[NodeKind], *requests: Request) -> tuple[CostTable, list[int]]:
    """Return a table for ``policy`` on an empty fleet, and the row of each request."""
    shapes, mix, rows = workload(*requests)
    return CostTable(shapes, Residuals(nodes), scorer(policy, mix, nodes)), rows


def lookahead_table(nodes: list[NodeKind], *requests: Request) -> tuple[CostTable, list[int]]:
    """Return a table for Penstock's own policy."""
    shapes, mix, rows = workload(*requests)
    return CostTable(shapes, Residuals(nodes), Lookahead(shapes, Prospects(mix, nodes))), rows


node_kinds = st.builds(
    lambda cpu, memory, devices, model: NodeKind(cpu, memory, devices, model if devices else -1),
    st.integers(0, 64_000),
    st.integers(0, 256_000),
    st.sampled_from([0, 1, 2, 4, 8]),
    st.integers(0, 2),
)


def _request(devices: int, milli: int, cpu: int, memory: int, models: int) -> Request:
    return Request(cpu, memory, devices, WHOLE_MILLI if devices > 1 else milli * devices, models)


requests = st.builds(
    _request,
    st.sampled_from([0, 1, 1, 1, 2, 4]),
    st.sampled_from([110, 230, 333, 470, 500, 810, 1_000, 1_000]),
    st.integers(0, 32_000),
    st.integers(0, 64_000),
    st.sampled_from([ANY_MODEL, ANY_MODEL, 1, 2, 6]),
)


def check_books(table: CostTable, claims: list[tuple[int, int, tuple[int, ...]]]) -> None:
    """Assert that what is left is what was there less ``claims`` (shape, node, devices), and never negative."""
    residuals = table.residuals
    cpu = [kind.cpu_milli for kind in residuals.kinds]
    memory = [kind.memory_mib for kind in residuals.kinds]
    left = [[WHOLE_MILLI] * kind.devices for kind in residuals.kinds]
    for shape, node, devices in claims:
        request = table.requests[shape]
        assert len(set(devices)) == len(devices) == request.devices
        assert not devices or request.models >> residuals.kinds[node].model & 1
        cpu[node] -= request.cpu_milli
        memory[node] -= request.memory_mib
        for device in devices:
            left[node][device] -= request.device_milli
    assert cpu == residuals.cpu_milli
    assert memory == residuals.memory_mib
    assert left == residuals.devices
    assert min(cpu) >= 0
    assert min(memory) >= 0
    assert min((device for node in left for device in node), default=0) >= 0
