"""Flows: what a network's hosts tell of packets that began a connection or were dropped."""

from enum import StrEnum


class Verdict(StrEnum):
    """What became of a packet."""

    ACCEPT = "accept"
    DROP = "drop"


class FlowLog(StrEnum):
    """Which flows of a network are kept; hosts count the others and forget them."""

    ALL = "all"
    DROPS = "drops"
    NONE = "none"

    def keeps(self, verdict: str) -> bool:
        """Tell whether a flow with this verdict is kept."""
        return self is FlowLog.ALL or (self is FlowLog.DROPS and verdict == Verdict.DROP)
