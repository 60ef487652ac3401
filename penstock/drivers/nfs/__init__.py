"""Volumes as qcow2 files on a file server that several hosts have mounted at the same path."""
