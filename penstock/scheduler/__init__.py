"""Choose where. Pure NumPy: filters, score, topology; a fleet in, a plan with reasons out; no I/O, no clock.

``snapshot`` holds the fleet, ``filters`` says how much fits where, ``score``, ``topology`` and ``slices``
choose, ``place`` puts them together and has every plan judged by ``domain.claim.fits``, ``explain`` puts it
in words with ``candidates`` and ``counterfactuals``.
"""

from penstock.scheduler.counterfactuals import Counterfactual
from penstock.scheduler.explain import Explanation, explain
from penstock.scheduler.place import place, place_many
from penstock.scheduler.plan import NoPlan, Plan
from penstock.scheduler.snapshot import Fleet

__all__ = ["Counterfactual", "Explanation", "Fleet", "NoPlan", "Plan", "explain", "place", "place_many"]
