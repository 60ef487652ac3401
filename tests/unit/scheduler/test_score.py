"""The least key wins."""

import numpy as np

from penstock.scheduler import Fleet
from penstock.scheduler.arrays import UNBOUNDED
from penstock.scheduler.score import least, node_key
from tests.support.fleets import CLASSES, device, node


def test_the_least_key_wins_and_the_seed_breaks_ties() -> None:
    keys = np.array([5, 2, UNBOUNDED, 2], dtype=np.int64)
    assert [least(keys, seed) for seed in (0, 1, 2, 3)] == [1, 3, 1, 3]
    assert least(np.array([UNBOUNDED], dtype=np.int64), 0) is None
    assert least(np.zeros(0, dtype=np.int64), 5) is None


def test_a_node_share_goes_to_no_devices_then_least_memory_then_least_cpu() -> None:
    fleet = Fleet(CLASSES)
    small, tight = 1 << 30, 2_000
    fleet.upsert_nodes(
        [
            node("with devices", memory_bytes=small),
            node("large"),
            node("small", memory_bytes=small),
            node("small and tight", memory_bytes=small, cpu_millis=tight),
        ]
    )
    fleet.upsert_devices([device("d", "with devices")])
    keys = node_key(fleet, np.arange(4, dtype=np.int64))
    assert np.argsort(keys).tolist() == [3, 2, 1, 0]
