"""Runs on a node or for a site: pulls what is wanted there, drives it through drivers, pushes what is."""
