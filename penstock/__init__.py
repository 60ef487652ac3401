"""Penstock: the infrastructure-first control plane of an AI factory."""

__version__ = "0.1.0"
