"""Volumes as qcow2 files on the host's own disk."""
