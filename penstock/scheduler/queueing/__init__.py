"""Choose when: queues in front of a cluster of whole GPUs. Pure: state and time are arguments.

``cluster`` knows what runs where, ``quota`` who is guaranteed what, ``history`` how long such work ran before,
``victims`` and ``reclaim`` who could make room; the other modules are policies, ``fair_share`` is the product's.
"""

from penstock.scheduler.queueing.cluster import Cluster, Gang, Part, Run
from penstock.scheduler.queueing.conservative import Conservative
from penstock.scheduler.queueing.fair_share import FairShare, Rules
from penstock.scheduler.queueing.fifo import Easy, Fifo
from penstock.scheduler.queueing.policy import Decisions, Estimate, Policy
from penstock.scheduler.queueing.quota import Quotas, Share, equal_shares, path_of
from penstock.scheduler.queueing.shortest import PredictedShortest

__all__ = [
    "Cluster",
    "Conservative",
    "Decisions",
    "Easy",
    "Estimate",
    "FairShare",
    "Fifo",
    "Gang",
    "Part",
    "Policy",
    "PredictedShortest",
    "Quotas",
    "Rules",
    "Run",
    "Share",
    "equal_shares",
    "path_of",
]
