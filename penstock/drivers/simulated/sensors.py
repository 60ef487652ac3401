"""What simulated devices would measure: made of the figures of their class and of how busy they are, the same each time."""

import zlib

from penstock.domain.device import DeviceClass
from penstock.drivers.base import Reading

INLET_CELSIUS = 25
RISE_CELSIUS = 50  # above the inlet at full power: about 75 C, where large accelerators are run
SPREAD_CELSIUS = 4  # no two places in a rack are equally well cooled


def simulated_reading(device_class: DeviceClass, node: str, index: int, load_permille: int) -> Reading:
    """Return the reading of a device that is busy to ``load_permille``: power from idle to the board's maximum, in proportion."""
    idle_mw, load_mw = device_class.idle_mw, device_class.load_mw
    drawn_mw = idle_mw + (load_mw - idle_mw) * min(load_permille, 1_000) // 1_000
    place = zlib.crc32(f"{node}/{index}".encode()) % SPREAD_CELSIUS
    celsius = INLET_CELSIUS + place + RISE_CELSIUS * drawn_mw // max(load_mw, 1)
    return Reading(node, index, drawn_mw // 1_000, celsius)
