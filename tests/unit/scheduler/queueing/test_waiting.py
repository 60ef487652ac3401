"""The waiting room: by key, by age, and its alarms."""

import pytest

from penstock.scheduler.queueing.waiting import Waiting, WaitingRoom
from tests.support.gangs import gang


def waiting(job_id: int, key: int, queue: str = "a", gpus: int = 1) -> Waiting:
    return Waiting(gang(job_id, gpus, queue), since_s=job_id, order=job_id, done_s=0, expected_s=1, key=key)


def test_each_bucket_knows_its_first_and_its_oldest() -> None:
    room = WaitingRoom()
    for job_id, key in ((1, 50), (2, 30), (3, 50), (4, 30)):
        room.add(waiting(job_id, key), ())
    room.add(waiting(5, 10, "b"), ())
    room.add(waiting(6, 10, "a", 2), ())
    bucket = room.bucket(("a", 1))
    assert (len(room), len(bucket)) == (6, 4)
    assert [name for name, _ in room.occupied()] == [("a", 1), ("b", 1), ("a", 2)]
    order: list[tuple[int, int]] = []
    while len(bucket):
        order.append((bucket.first().gang.job_id, bucket.oldest().gang.job_id))
        room.remove(bucket.first().gang)
    assert order == [(2, 1), (4, 1), (1, 1), (3, 3)]
    assert [name for name, _ in room.occupied()] == [("b", 1), ("a", 2)]
    with pytest.raises(KeyError):
        room.remove(gang(1))
    assert len(room) == 2


def test_alarms_ring_in_order_while_somebody_waits() -> None:
    room = WaitingRoom()
    assert room.wake_s() is None
    room.add(waiting(1, 1), (30, 10))
    assert room.wake_s() == 10
    room.silence(10)
    assert room.wake_s() == 30
    room.remove(gang(1))
    assert room.wake_s() is None, "nobody is there to be woken"
