"""Choose where. Pure NumPy: filters, score, topology; a fleet in, a plan with reasons out; no I/O, no clock.

``snapshot`` holds the fleet, ``filters`` says how much fits where, ``score`` and ``topology`` choose,
``place`` puts them together and has every plan judged by ``domain.claim.fits``, ``explain`` puts it in words.
"""

from penstock.scheduler.place import place, place_many
from penstock.scheduler.plan import NoPlan, Plan
from penstock.scheduler.snapshot import Fleet

__all__ = ["Fleet", "NoPlan", "Plan", "place", "place_many"]
