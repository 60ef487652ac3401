"""The columns of the fleet's table of nodes."""

from penstock.domain.claim import Level
from penstock.domain.power_budget import PowerLevel

ABOVE_NODES = (PowerLevel.NODE, PowerLevel.RACK, PowerLevel.ROW, PowerLevel.SITE)
# ALIVE is 0 in a row that is spare; DEVICES counts the devices on the node.
(
    ALIVE,
    SCHEDULABLE,
    NODE_MEMORY,
    NODE_MEMORY_USED,
    CPU,
    CPU_USED,
    DRIVERS,
    ARCHITECTURE,
    NODE_SITE,
    DEVICES,
    RACK,
    LEAF,
    POD,
    MAINTENANCE_FROM,
    ASLEEP,
    WAKE_MW,
) = range(16)
PATH = slice(16, 16 + len(ABOVE_NODES))  # the rows of the power budgets above it
COLUMNS = PATH.stop
AREA_COLUMNS = {Level.RACK: RACK, Level.LEAF: LEAF, Level.POD: POD}
