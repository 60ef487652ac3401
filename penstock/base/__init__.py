"""Typed ids, units, clock, errors, limits: what every other folder stands on."""
