"""What the study reads: jobs, and what each queue is guaranteed.

Jobs: ``submit_s``, ``duration_s``, ``num_gpus``, the queue as ``vc`` or ``queue`` (tenant or tenant/project), and
if wanted ``checkpoint_s``. Shares: ``queue``, ``guaranteed_gpus``, if wanted ``limit_gpus``; or ``vc``, ``nodes``.
"""

from pathlib import Path

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Gang, Share, path_of
from penstock.twin.queue.replay import Job
from penstock.twin.queue.table import Row, read_table, whole_number

_NUMBERS = ("submit_s", "duration_s", "num_gpus")
_QUEUES = ("queue", "vc")


def read_jobs(path: Path, *, capacity: int, checkpoint_s: int, window_s: tuple[int, int]) -> list[Job]:
    """Return the jobs submitted in ``window_s`` (from, until) in order of submission, numbered from 0.

    ``checkpoint_s`` holds where the file does not say. InvalidInputError names the line of a bad value and of
    a gang that the cluster of ``capacity`` GPUs never holds.
    """
    found: list[tuple[int, int, int, int, str, int]] = []
    most_s = limits.TWIN_SECONDS_MAX
    for line, row in read_table(path, _NUMBERS, (*_QUEUES, "checkpoint_s")):
        submit_s = whole_number(path, line, row, "submit_s", 0, most_s)
        duration_s = whole_number(path, line, row, "duration_s", 0, most_s)
        gpus = whole_number(
            path, line, row, "num_gpus", 1, limits.TWIN_NODES_MAX * limits.TWIN_GPUS_PER_NODE_MAX
        )
        own_s = checkpoint_s
        if row.get("checkpoint_s", "").strip():
            own_s = whole_number(path, line, row, "checkpoint_s", 0, most_s)
        queue = _queue(path, line, row)
        if gpus > capacity:
            raise InvalidInputError(
                f"{path}, line {line}: a gang of {gpus} GPUs never fits the cluster, which has {capacity}; "
                "use more nodes or take the job out"
            )
        if window_s[0] <= submit_s < window_s[1]:
            found.append((submit_s, line, duration_s, gpus, queue, own_s))
    if not found:
        raise InvalidInputError(f"{path}: no job was submitted in the time asked for; widen it")
    found.sort()
    return [
        Job(Gang(number, queue, gpus, submit_s, own_s), duration_s)
        for number, (submit_s, _, duration_s, gpus, queue, own_s) in enumerate(found)
    ]


def read_shares(path: Path, gpus_per_node: int) -> list[Share]:
    """Return the shares in the file; InvalidInputError with the line of a bad value."""
    shares: list[Share] = []
    most = limits.TWIN_NODES_MAX * limits.TWIN_GPUS_PER_NODE_MAX
    for line, row in read_table(path, (), (*_QUEUES, "guaranteed_gpus", "limit_gpus", "nodes")):
        queue, limit = _queue(path, line, row), None
        if not any(name in row for name in _QUEUES) or ("nodes" in row) == ("guaranteed_gpus" in row):
            raise InvalidInputError(
                f"{path}, line {line}: a share names its queue (or vc) and its guaranteed_gpus (or nodes)"
            )
        if "nodes" in row:
            guaranteed = whole_number(path, line, row, "nodes", 0, limits.TWIN_NODES_MAX) * gpus_per_node
        else:
            guaranteed = whole_number(path, line, row, "guaranteed_gpus", 0, most)
        if row.get("limit_gpus", "").strip():
            limit = whole_number(path, line, row, "limit_gpus", guaranteed, most)
        shares.append(Share(queue, guaranteed, limit))
        if len(shares) > limits.TWIN_QUEUES_MAX:
            raise InvalidInputError(f"{path}: more than {limits.TWIN_QUEUES_MAX:,} shares")
    return shares


def _queue(path: Path, line: int, row: Row) -> str:
    queue = next((row[name].strip() for name in _QUEUES if name in row), "all")
    try:
        path_of(queue)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}, line {line}: {error.sentence}") from error
    return queue
