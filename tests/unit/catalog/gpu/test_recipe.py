"""What the agent is told of a GPU service: one allocation per node, each device once."""

from penstock.catalog.base import Known, Place
from penstock.catalog.gpu.recipe import GpuKind
from penstock.domain.claim import Grant

KNOWN = Known({}, {})
PLACES = {
    "nod_a": Place("r01t01", None),
    "nod_b": Place("r01t02", None),
    "dev_1": Place("", 0),
    "dev_2": Place("", 3),
    "dev_3": Place("", 1),
}


def test_slices_of_one_device_are_one_mask_and_nodes_are_apart() -> None:
    grants = [
        Grant("nod_a", "dev_1", 0b000111, 0, 0),
        Grant("nod_a", "dev_1", 0b111000, 0, 0),
        Grant("nod_a", "dev_2", 0b000111, 0, 0),
        Grant("nod_b", "dev_3", 0b000111, 0, 0),
    ]
    first, second = GpuKind().drafts("x", {}, [grants], PLACES, KNOWN)
    assert (first.node_id, second.node_id) == ("nod_a", "nod_b")
    assert first.config == {
        "node": "r01t01",
        "devices": [{"index": 0, "mask": 0b111111}, {"index": 3, "mask": 0b111}],
    }
    assert second.config == {"node": "r01t02", "devices": [{"index": 1, "mask": 0b111}]}
    assert first.grants == tuple(grants[:3])  # each grant is a claim of its own
