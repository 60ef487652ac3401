"""GPUs through NVML, NVIDIA's management library (nvidia-ml-py calls the driver's own libnvidia-ml.so.1)."""

from collections.abc import Callable
from ctypes import byref
from pathlib import Path
from typing import Any, TypeVar

import pynvml

from penstock.domain.device import DeviceClass, DeviceHealth, classify
from penstock.drivers.base import DeviceFacts, Reading

Result = TypeVar("Result")
NO_GPU = "no GPU found"


def read_gpus(
    classes: dict[str, DeviceClass], sys_root: Path = Path("/sys")
) -> tuple[tuple[DeviceFacts, ...], tuple[str, ...]]:
    """Return the GPUs of this machine and notes for a person; never fails for want of a GPU or a driver.

    ``sys_root`` is where the kernel says which NUMA node a PCI device is near.
    """
    nvml: Any = pynvml  # ships no stubs
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), (f"{NO_GPU}: {_why(nvml, error)}",)
    try:
        count = int(nvml.nvmlDeviceGetCount())
        read = [_read(nvml, index, classes, sys_root) for index in range(count)]
        notes = tuple(note for _, note in read if note)
        devices = tuple(device for device, _ in read if device is not None)
    except nvml.NVMLError as error:
        return (), (f"GPUs cannot be read: {error}",)
    else:
        return devices, notes if count else (f"{NO_GPU}: the driver manages none",)
    finally:
        nvml.nvmlShutdown()


def read_sensors(node: str) -> list[Reading]:
    """Return the power and temperature of the GPUs of this machine, which is called ``node``; none without a driver.

    NVML API reference: power in milliwatts, of the whole board on those that say; temperature of the die.
    """
    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []  # the inventory says why
    try:
        return [_sensors(nvml, node, index) for index in range(int(nvml.nvmlDeviceGetCount()))]
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


def _sensors(nvml: Any, node: str, index: int) -> Reading:
    handle = _optional(nvml, lambda: nvml.nvmlDeviceGetHandleByIndex(index))
    milliwatts = _optional(nvml, lambda: int(nvml.nvmlDeviceGetPowerUsage(handle)))
    die = nvml.NVML_TEMPERATURE_GPU
    celsius = _optional(nvml, lambda: int(nvml.nvmlDeviceGetTemperature(handle, die)))
    return Reading(node, index, None if milliwatts is None else round(milliwatts / 1_000), celsius)


def _why(nvml: Any, error: Exception) -> str:
    if isinstance(error, nvml.NVMLError_LibraryNotFound):
        return "NVIDIA's management library (libnvidia-ml.so.1) is not installed"
    return str(error)


def _read(
    nvml: Any, index: int, classes: dict[str, DeviceClass], sys_root: Path
) -> tuple[DeviceFacts | None, str]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        model = _text(nvml.nvmlDeviceGetName(handle))
        memory_bytes = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError as error:
        return None, f"GPU {index} cannot be read: {error}"
    pci = _optional(nvml, lambda: _pci_address(_text(nvml.nvmlDeviceGetPciInfo(handle).busId)))
    device = DeviceFacts(
        index=index,
        device_class=classify(model, classes),
        model=model,
        vendor="nvidia",
        memory_bytes=memory_bytes,
        serial=_optional(nvml, lambda: _text(nvml.nvmlDeviceGetSerial(handle))),
        uuid=_optional(nvml, lambda: _text(nvml.nvmlDeviceGetUUID(handle))),
        pci_address=pci,
        numa_node=_near_numa_node(sys_root, pci),
        nvlink_domain=_nvlink_domain(nvml, handle),
        health=_health(nvml, handle),
    )
    return device, ""


def _pci_address(bus_id: str) -> str:
    """Return NVML's ``00000000:1B:00.0`` as the kernel writes it: ``0000:1b:00.0``."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]:0>4}:{rest}" if int(domain or "0", 16) < 1 << 16 else f"{domain}:{rest}"


def _near_numa_node(sys_root: Path, pci_address: str | None) -> int | None:
    """Return the NUMA node whose processors are nearest to a PCI device, None where the kernel does not say.

    NVML's own call of that name means another thing: the node that a coherent GPU's memory appears as.
    """
    if pci_address is None:
        return None
    try:
        text = (sys_root / "bus" / "pci" / "devices" / pci_address / "numa_node").read_text("ascii").strip()
    except (OSError, UnicodeError):
        return None
    return int(text) if text.isdigit() else None  # -1: the firmware does not say


def _nvlink_domain(nvml: Any, handle: Any) -> str | None:
    """Return ``<cluster uuid>.<clique>`` of a GPU that has joined a multi-node NVLink fabric, None elsewhere.

    NVML API reference, nvmlGpuFabricInfo_t: uuid and clique count once the state is "completed" and the
    registration's status is success.
    """
    fabric = nvml.c_nvmlGpuFabricInfo_t()
    if _optional(nvml, lambda: nvml.nvmlDeviceGetGpuFabricInfo(handle, byref(fabric))) is None:
        return None
    joined = fabric.state == nvml.NVML_GPU_FABRIC_STATE_COMPLETED and fabric.status == nvml.NVML_SUCCESS
    if not joined or not any(bytes(fabric.clusterUuid)):
        return None
    return f"{bytes(fabric.clusterUuid).hex()}.{fabric.cliqueId}"


def _health(nvml: Any, handle: Any) -> str:
    """Return ``failed``, ``suspect`` or ``ok``; what is not told counts as ok.

    NVIDIA GPU memory error management: a failed row remapping means replacement. A pending remapping and
    uncorrected errors since the driver was loaded mean that it must be reset before it can be trusted.
    """
    rows = _optional(nvml, lambda: nvml.nvmlDeviceGetRemappedRows(handle))
    pending, remapping_failed = (bool(rows[2]), bool(rows[3])) if rows is not None else (False, False)
    if remapping_failed:
        return DeviceHealth.FAILED.value
    kind, since = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    errors = _optional(nvml, lambda: int(nvml.nvmlDeviceGetTotalEccErrors(handle, kind, since)))
    return DeviceHealth.SUSPECT.value if pending or errors else DeviceHealth.OK.value


def _optional(nvml: Any, read: Callable[[], Result]) -> Result | None:
    """Return what ``read`` gives, None where this GPU or driver does not offer it."""
    try:
        return read()
    except (nvml.NVMLError, AttributeError):
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
