"""Mediated devices from a copy of the kernel's tree: nothing here says anything about hardware."""

from pathlib import Path

from penstock.domain.device import load_device_classes
from penstock.drivers.base import DeviceFacts
from penstock.drivers.local.mediated import with_mediated

GIB = 1 << 30
FIRST, SECOND = "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "a297db4a-f4c2-11e6-90f6-d3b88d6c9525"


def _device(
    root: Path, address: str, uuid: str, *, whole: str | None = None, framebuffer: int = 8_192
) -> None:
    parent = root / "devices" / "pci0000:3a" / address
    kind = parent / "mdev_supported_types" / "nvidia-558"
    (parent / uuid).mkdir(parents=True)
    kind.mkdir(parents=True, exist_ok=True)
    (kind / "name").write_text("NVIDIA H100-8C\n")
    (kind / "description").write_text(
        f"num_heads=1, frl_limit=60, framebuffer={framebuffer}M, max_instance=10\n"
    )
    (parent / "numa_node").write_text("1\n")
    (parent / "vendor").write_text("0x10de\n")
    (parent / uuid / "mdev_type").symlink_to(kind)
    if whole is not None:
        (parent.parent / whole).mkdir()
        (parent / "physfn").symlink_to(parent.parent / whole)
    bus = root / "bus" / "mdev" / "devices"
    bus.mkdir(parents=True, exist_ok=True)
    (bus / uuid).symlink_to(parent / uuid)


def _gpu(index: int, address: str) -> DeviceFacts:
    return DeviceFacts(index, "H100", "NVIDIA H100", "nvidia", 80 * GIB, pci_address=address)


def test_a_mediated_device_is_reported_with_its_type_and_the_place_of_its_parent(tmp_path: Path) -> None:
    _device(tmp_path, "0000:3b:00.4", FIRST, whole="0000:3b:00.0")
    _device(tmp_path, "0000:3c:00.0", SECOND)
    whole = _gpu(2, "0000:3d:00.0")
    gpus = (_gpu(0, "0000:3b:00.0"), _gpu(1, "0000:3c:00.0"), whole)
    devices = with_mediated(gpus, load_device_classes(), tmp_path)
    assert devices[0] == whole  # the two that are cut are not sold as a whole as well
    assert devices[1:] == (
        DeviceFacts(
            3,
            "unknown",  # not the class of the whole GPU, whose model begins likewise
            "NVIDIA H100-8C",
            "nvidia",
            8 * GIB,
            uuid=FIRST,
            pci_address="0000:3b:00.4",
            numa_node=1,
            attach="mdev",
            mdev_type="nvidia-558",
        ),
        DeviceFacts(
            4,
            "unknown",
            "NVIDIA H100-8C",
            "nvidia",
            8 * GIB,
            uuid=SECOND,
            pci_address="0000:3c:00.0",
            numa_node=1,
            attach="mdev",
            mdev_type="nvidia-558",
        ),
    )


def test_a_part_with_all_of_the_memory_has_the_class_of_the_whole(tmp_path: Path) -> None:
    _device(tmp_path, "0000:3b:00.4", FIRST, framebuffer=80 * 1_024)
    (device,) = with_mediated((), load_device_classes(), tmp_path)
    assert (device.device_class, device.memory_bytes) == ("H100", 80 * GIB)


def test_without_a_tree_or_with_another_name_in_it_there_is_none(tmp_path: Path) -> None:
    gpu = _gpu(0, "0000:3b:00.0")
    assert with_mediated((gpu,), {}, tmp_path) == (gpu,)
    (tmp_path / "bus" / "mdev" / "devices" / "x").mkdir(parents=True)
    assert with_mediated((gpu,), {}, tmp_path) == (gpu,)
