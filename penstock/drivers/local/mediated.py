"""Mediated devices (vGPUs): parts of a device that its own driver cuts, as the kernel lists them.

Linux, Documentation/driver-api/vfio-mediated-device.rst: /sys/bus/mdev/devices/UUID is a link to a folder below the
parent's; ``mdev_type`` in it is a link to the type, which may have a ``name`` and a ``description``.
Written by that text and tested on a copy of such a tree, not on hardware.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from penstock.domain.device import Attach, DeviceClass, classify_part, is_uuid
from penstock.drivers.base import DeviceFacts

_VENDORS = {"0x10de": "nvidia", "0x8086": "intel", "0x1002": "amd"}
_FRAMEBUFFER = re.compile(r"framebuffer=(\d+)M")  # NVIDIA vGPU user guide, the description of a type


def with_mediated(
    gpus: Sequence[DeviceFacts], classes: dict[str, DeviceClass], sys_root: Path
) -> tuple[DeviceFacts, ...]:
    """Return the GPUs and the mediated devices of this machine; a GPU that is cut into these is left out: it is not sold twice."""
    found: list[DeviceFacts] = []
    parents: set[str | None] = set()
    for link in sorted((sys_root / "bus" / "mdev" / "devices").glob("*")):
        if is_uuid(link.name):
            parent = link.resolve().parent
            parents |= {parent.name, (parent / "physfn").resolve().name}  # a virtual function's whole
            found.append(_read(link, parent, classes))
    first = max((gpu.index for gpu in gpus), default=-1) + 1
    return (
        *(gpu for gpu in gpus if gpu.pci_address not in parents),
        *(replace(one, index=first + number) for number, one in enumerate(found)),
    )


def _read(link: Path, parent: Path, classes: dict[str, DeviceClass]) -> DeviceFacts:
    kind = (link / "mdev_type").resolve()
    model = _text(kind / "name") or kind.name
    size = _FRAMEBUFFER.search(_text(kind / "description"))
    memory_bytes = int(size.group(1)) << 20 if size else 0
    node = _text(parent / "numa_node")
    return DeviceFacts(
        index=0,
        device_class=classify_part(model, memory_bytes, classes),
        model=model,
        vendor=_VENDORS.get(_text(parent / "vendor"), "unknown"),
        memory_bytes=memory_bytes,
        uuid=link.name,
        pci_address=parent.name,
        numa_node=int(node) if node.isdigit() else None,
        attach=Attach.MDEV,
        mdev_type=kind.name,
    )


def _text(file: Path) -> str:
    """Return what the kernel says in a file; nothing where it says nothing."""
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeError):
        return ""
