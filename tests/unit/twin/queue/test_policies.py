"""The known figures of Philly's October 2017 on a quarter of the cluster, and Penstock's against its targets."""

import pytest

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import Gang
from penstock.twin.queue.policies import Study, run_study
from penstock.twin.queue.replay import Job
from penstock.twin.queue.trace import read_jobs
from tests.support.traces import PHILLY

OCTOBER_S = 27 * 86_400  # the trace begins on 4 September


@pytest.mark.skipif(not PHILLY.exists(), reason="the public traces are not beside the repository")
def test_october_of_philly() -> None:
    jobs = read_jobs(PHILLY, capacity=704, checkpoint_s=1_800, window_s=(OCTOBER_S, 1 << 40))
    study = Study(jobs, nodes=88, gpus_per_node=8)
    easy, shortest, ours = (run_study(study, name) for name in ("easy", "predicted-shortest", "penstock"))
    assert easy.mean_wait_h == pytest.approx(0.30, abs=0.03)
    assert shortest.mean_wait_h == pytest.approx(0.28, abs=0.01)
    assert ours.mean_wait_h <= 0.28
    assert ours.mean_wait_h_ge8 is not None
    assert ours.mean_wait_h_ge8 <= 1.5
    assert ours.utilisation_pct >= easy.utilisation_pct - 0.5


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no policy 'lifo'"):
        run_study(Study([Job(Gang(0, "a", 1, 0), 1)], 1, 1), "lifo")
