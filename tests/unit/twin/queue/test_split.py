"""Nodes of one's own."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Gang, Share
from penstock.twin.queue.replay import Job
from penstock.twin.queue.split import by_tenant, nodes_by_share, nodes_by_work


def job(job_id: int, queue: str, gpus: int, duration_s: int) -> Job:
    return Job(Gang(job_id, queue, gpus, job_id), duration_s)


JOBS = [job(0, "a/x", 4, 100), job(1, "b", 1, 100), job(2, "a/y", 4, 50), job(3, "c", 24, 1)]


def test_each_tenant_has_its_jobs_numbered_from_0() -> None:
    parts = by_tenant(JOBS)
    assert {name: [one.gang.queue for one in jobs] for name, jobs in parts.items()} == {
        "a": ["a/x", "a/y"],
        "b": ["b"],
        "c": ["c"],
    }
    assert [one.gang.job_id for one in parts["a"]] == [0, 1]


def test_nodes_follow_the_work_but_the_largest_gang_fits() -> None:
    parts = by_tenant(JOBS)
    assert nodes_by_work(parts, 10, 8) == {"a": 6, "b": 1, "c": 3}
    assert nodes_by_work(parts, 5, 8) == {"a": 1, "b": 1, "c": 3}
    with pytest.raises(InvalidInputError, match="needs 5 nodes"):
        nodes_by_work(parts, 4, 8)


def test_shares_of_tenants_in_whole_nodes() -> None:
    assert nodes_by_share([Share("a", 17), Share("a/x", 9), Share("b", 7)], 8) == {"a": 2, "b": 0}
