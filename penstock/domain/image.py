"""Disk images: recognised by their content, and refused where they could hurt whoever starts them.

Nothing is unpacked and no program reads a foreign image here: the header says all that decides.
"""

from dataclasses import dataclass
from enum import StrEnum

from penstock.base import limits
from penstock.base.errors import InvalidInputError
from penstock.base.units import BYTES_PER_GIB

HEADER_BYTES = 512
_QCOW2 = b"QFI\xfb"
_KNOWN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"KDMV", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"conectix", "VHD"),
    (0, b"vhdxfile", "VHDX"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ", "xz"),
    (0, b"BZh", "bzip2"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x7fELF", "an ELF program"),
    (510, b"\x55\xaa", "a raw disk"),
)
_VERSION_3_FEATURES, _VERSION_3_REFCOUNT_ORDER = 72, 96
# What QEMU itself takes at most (block/qcow2.h): tables of clusters and of counts, and snapshots inside.
_L1_BYTES_MAX, _COUNTS_BYTES_MAX, _INNER_SNAPSHOTS_MAX = 32 << 20, 8 << 20, 65_536
_REFCOUNT_ORDER_MAX = 6
_DIRTY, _CORRUPT, _EXTERNAL = 1, 2, 4  # bits of "incompatible features" (QEMU docs/interop/qcow2.txt)
_UNDERSTOOD = 0b11011  # dirty, corrupt, compression type, extended level 2


class ImageState(StrEnum):
    """How far an image has come."""

    PENDING = "pending"
    ACTIVE = "active"
    FAILED = "failed"


IMAGE_STATE_SENTENCES: dict[ImageState, str] = {
    ImageState.PENDING: "it is being fetched and checked",
    ImageState.ACTIVE: "machines can be started from it",
    ImageState.FAILED: "it was not taken; the message says why. Delete it and try again",
}


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a qcow2 image say."""

    virtual_bytes: int


def check_header(head: bytes, size_bytes: int) -> Header:
    """Return what an image's first ``HEADER_BYTES`` say; InvalidInputError (field ``image``) if it is not taken.

    Taken is qcow2 that stands alone: no backing file, no external data file, no encryption of its own, at most
    ``limits.VM_DISK_GIB_MAX`` as a disk.
    """
    if head[:4] != _QCOW2:
        raise _refused(
            f"this is {_what(head)}, and images are qcow2; convert it: qemu-img convert -O qcow2 FILE image.qcow2"
        )
    if len(head) < 104 or size_bytes < 104:
        raise _refused("the image is cut short")
    version = _number(head, 4, 4)
    if version not in (2, 3):
        raise _refused(f"qcow2 version {version} is not known; versions 2 and 3 are")
    if _number(head, 8, 8) or _number(head, 16, 4):
        raise _refused(
            "the image leans on a backing file; make it whole: qemu-img convert -O qcow2 FILE image.qcow2"
        )
    if _number(head, 32, 4):
        raise _refused("the image is encrypted by itself; use an encrypted volume instead")
    cluster_bits = _number(head, 20, 4)
    if not 9 <= cluster_bits <= 21:
        raise _refused("the image is damaged: its cluster size cannot be")
    if version == 3:
        _check_features(_number(head, _VERSION_3_FEATURES, 8))
        if _number(head, _VERSION_3_REFCOUNT_ORDER, 4) > _REFCOUNT_ORDER_MAX:
            raise _refused("the image is damaged: the width of its counts cannot be")
    virtual_bytes = _number(head, 24, 8)
    if not 0 < virtual_bytes <= limits.VM_DISK_GIB_MAX * BYTES_PER_GIB:
        raise _refused(
            f"as a disk the image has {virtual_bytes} bytes; 1 to {limits.VM_DISK_GIB_MAX} GiB are taken"
        )
    _check_tables(head, size_bytes, cluster_bits)
    return Header(virtual_bytes)


def _check_tables(head: bytes, size_bytes: int, cluster_bits: int) -> None:
    tables = (
        ("table of clusters", _number(head, 40, 8), 8 * _number(head, 36, 4), _L1_BYTES_MAX),
        ("table of counts", _number(head, 48, 8), _number(head, 56, 4) << cluster_bits, _COUNTS_BYTES_MAX),
    )
    for name, offset, length, most in tables:
        if offset + length > size_bytes:
            raise _refused(f"the image is cut short: its {name} lies beyond its end")
        if length > most:
            raise _refused(f"the image is damaged: its {name} has {length} bytes, and {most} can be")
    if _number(head, 60, 4) > _INNER_SNAPSHOTS_MAX:
        raise _refused("the image is damaged: it says that it holds more snapshots than there can be")


def _check_features(features: int) -> None:
    if features & _EXTERNAL:
        raise _refused("the image keeps its data in another file; make it whole: qemu-img convert -O qcow2")
    if features & _CORRUPT:
        raise _refused("the image says itself that it is corrupt; repair it: qemu-img check -r all FILE")
    if features & ~_UNDERSTOOD:
        raise _refused("the image has features that are not known here; convert it anew with qemu-img")


def _what(head: bytes) -> str:
    if not head:
        return "nothing"
    for offset, magic, name in _KNOWN:
        if head[offset : offset + len(magic)] == magic:
            return name
    return "of no known form"


def _number(head: bytes, offset: int, size: int) -> int:
    return int.from_bytes(head[offset : offset + size], "big")


def _refused(sentence: str) -> InvalidInputError:
    return InvalidInputError(sentence, field="image")
