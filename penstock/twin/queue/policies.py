"""The policies by name, and one study of each on one set of jobs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from penstock.base.errors import InvalidInputError
from penstock.scheduler.queueing import (
    Cluster,
    Conservative,
    Easy,
    FairShare,
    Fifo,
    Gang,
    Policy,
    PredictedShortest,
    Rules,
    Share,
    equal_shares,
)
from penstock.twin.queue.measure import Result, measure
from penstock.twin.queue.replay import Job, Outcome, replay
from penstock.twin.queue.split import by_tenant, nodes_by_share, nodes_by_work


@dataclass(frozen=True, slots=True)
class Study:
    """What every policy of one comparison is given. Without ``shares`` all tenants are guaranteed the same."""

    jobs: Sequence[Job]
    nodes: int
    gpus_per_node: int
    shares: Sequence[Share] = ()
    rules: Rules = field(default_factory=Rules)

    def quotas(self) -> list[Share]:
        """Return the shares that hold."""
        if self.shares:
            return list(self.shares)
        return equal_shares((job.gang.queue for job in self.jobs), self.nodes * self.gpus_per_node)


def _exact(jobs: Sequence[Job]) -> Callable[[Gang], int]:
    return lambda gang: jobs[gang.job_id].duration_s


def _pooled(make: Callable[[Study, Cluster], Policy]) -> Callable[[Study], list[Outcome]]:
    def study_of(study: Study) -> list[Outcome]:
        return [replay(study.jobs, make(study, Cluster(study.nodes, study.gpus_per_node)))]

    return study_of


def _static_split(study: Study) -> list[Outcome]:
    parts = by_tenant(study.jobs)
    if study.shares:
        nodes = nodes_by_share(study.shares, study.gpus_per_node)
    else:
        nodes = nodes_by_work(parts, study.nodes, study.gpus_per_node)
    for name in parts:
        if not nodes.get(name):
            raise InvalidInputError(f"tenant '{name}' has no whole node in the split; give it a share")
    return [
        replay(jobs, Easy(Cluster(nodes[name], study.gpus_per_node), _exact(jobs)))
        for name, jobs in parts.items()
    ]


POLICIES: dict[str, Callable[[Study], list[Outcome]]] = {
    "fifo": _pooled(lambda _, cluster: Fifo(cluster)),
    "easy": _pooled(lambda study, cluster: Easy(cluster, _exact(study.jobs))),
    "conservative": _pooled(lambda study, cluster: Conservative(cluster, _exact(study.jobs))),
    "predicted-shortest": _pooled(lambda _, cluster: PredictedShortest(cluster)),
    "static-split": _static_split,
    "penstock": _pooled(lambda study, cluster: FairShare(cluster, study.quotas(), study.rules)),
}


def run_study(study: Study, policy: str) -> Result:
    """Replay the study's jobs through one policy; InvalidInputError for an unknown one."""
    if policy not in POLICIES:
        raise InvalidInputError(f"there is no policy '{policy}'; the policies are {', '.join(POLICIES)}")
    return measure(policy, POLICIES[policy](study))
