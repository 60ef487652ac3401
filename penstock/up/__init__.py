"""Composes a whole factory: ``penstock up`` is everything in one process tree, ``penstock serve`` one part of it."""
