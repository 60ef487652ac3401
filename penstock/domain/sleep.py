"""Nodes that sleep: what agents may say of their power."""

from enum import StrEnum


class PowerState(StrEnum):
    """Whether a node can be used: ``waking`` it soon can, ``off`` it must be woken."""

    ON = "on"
    WAKING = "waking"
    OFF = "off"
